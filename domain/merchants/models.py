"""Merchants and shops as rows. The terms a merchant sells on are plain values (rules.py) behind
plain SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from tortoise import fields
from tortoise.models import Model


class Merchant(Model):
    """Who sells, settled in `base_ccy`; `zone` is an IANA name, `state` open or closed."""

    id = fields.UUIDField(primary_key=True)
    name = fields.CharField(max_length=120)
    base_ccy = fields.CharField(max_length=12)
    country = fields.CharField(max_length=2)
    contact_email = fields.CharField(max_length=320)
    locale = fields.CharField(max_length=12)
    zone = fields.CharField(max_length=64, default="UTC")
    state = fields.CharField(max_length=32, default="open")
    version = fields.IntField(default=1)
    created_at = fields.DatetimeField(auto_now_add=True)
    closed_at = fields.DatetimeField(null=True)

    class Meta:
        table = "merchant"


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop with what a sale needs to know of its merchant; `names` are by language."""

    id: UUID
    merchant_id: UUID
    handle: str
    names: Mapping[str, str]
    theme: Mapping[str, object]
    merchant_name: str
    base_ccy: str
    country: str
    locale: str
    is_open: bool
    version: int

    def name(self, language: str) -> str:
        """The name in `language`, else in the shop's own, else in any it has."""
        return (
            self.names.get(language)
            or self.names.get(self.locale)
            or next(iter(self.names.values()))
        )
