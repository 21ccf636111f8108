"""Delivery of what is not a key on the shelf: by hand, or bought from a supplier when it is sold."""

from domain.delivery.actions import DeliveryInvalid, NotDelivered, deliver, procure, supply

__all__ = ["DeliveryInvalid", "NotDelivered", "deliver", "procure", "supply"]
