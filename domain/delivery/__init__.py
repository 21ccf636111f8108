"""Delivery of what is not a key on the shelf: by hand, or bought from a supplier when it is sold."""

from domain.delivery.actions import DeliveryInvalid, SupplyRefused, deliver, procure

__all__ = ["DeliveryInvalid", "SupplyRefused", "deliver", "procure"]
