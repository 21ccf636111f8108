"""Merchants: who sells, in which shops, and on which terms (fees, settlement, reserve, split)."""

from __future__ import annotations

from domain.merchants.actions import (
    close_merchant,
    open_merchant,
    open_shop,
    rename_shop,
    set_fee,
    set_reserve,
    set_settlement,
    set_split,
)
from domain.merchants.models import Merchant, Shop
from domain.merchants.queries import forget, merchants, plans, shop_by_handle, shops, shops_of
from domain.merchants.rules import (
    FeeSchedule,
    FeeTerms,
    HandleTaken,
    Payer,
    Plans,
    ReserveKind,
    Scope,
    ShopClosed,
    Speed,
    SplitLeg,
    fee,
)

__all__ = [
    "FeeSchedule",
    "FeeTerms",
    "HandleTaken",
    "Merchant",
    "Payer",
    "Plans",
    "ReserveKind",
    "Scope",
    "Shop",
    "ShopClosed",
    "Speed",
    "SplitLeg",
    "close_merchant",
    "fee",
    "forget",
    "merchants",
    "open_merchant",
    "open_shop",
    "plans",
    "rename_shop",
    "set_fee",
    "set_reserve",
    "set_settlement",
    "set_split",
    "shop_by_handle",
    "shops",
    "shops_of",
]
