"""The tables of people: accounts and who belongs to which merchant. Sessions and tries are plain
SQL."""

from __future__ import annotations

from enum import StrEnum

from tortoise import fields
from tortoise.models import Model


class AccountKind(StrEnum):
    """A person may belong to merchants; an operator runs the platform."""

    PERSON = "person"
    OPERATOR = "operator"


class Account(Model):
    """Somebody who can sign in. `email` is normalised, `password_hash` a PHC string."""

    id = fields.UUIDField(primary_key=True)
    email = fields.CharField(max_length=320, unique=True)
    password_hash = fields.CharField(max_length=255)
    kind = fields.CharEnumField(AccountKind, max_length=32)
    locale = fields.CharField(max_length=12, null=True)
    state = fields.CharField(max_length=32, default="open")
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "account"


class Membership(Model):
    """The one role of a person in a merchant."""

    no = fields.BigIntField(primary_key=True, generated=True)
    merchant_id = fields.UUIDField()
    account_id = fields.UUIDField()
    role = fields.CharField(max_length=32)
    granted_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "membership"
        unique_together = (("merchant_id", "account_id"),)
