"""Delivery of what is not a key on the shelf: by hand, or bought from a supplier when it is sold."""

__all__: list[str] = []
