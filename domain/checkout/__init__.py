"""Checkout: the only place that sells. Cart → order → attempt → fulfilment in sets → refunds."""

from domain.checkout.again import Bought, Wish, buy_again
from domain.checkout.charging import QuoteExpired
from domain.checkout.claims import decide_report, report_good
from domain.checkout.closing import cancel, expire_due
from domain.checkout.fulfil import SET_MAX, fulfil
from domain.checkout.manual import KINDS as MANUAL
from domain.checkout.manual import (
    approve_manual,
    approve_manual_refund,
    propose_manual,
    propose_manual_refund,
)
from domain.checkout.paying import (
    Paying,
    PaymentDeclined,
    RiskDeclined,
    check_due,
    pay,
)
from domain.checkout.refund_words import StillPending, hear, recheck, send
from domain.checkout.refunds import request_refund, return_partial, return_surplus
from domain.checkout.saving import forget as forget_method
from domain.checkout.saving import saved_by, saved_methods
from domain.checkout.starting import Cart, Started, Visitor, locked_until, start
from domain.checkout.waiting import clear, decline, decline_overdue, restock, return_undelivered

__all__ = [
    "MANUAL",
    "SET_MAX",
    "Bought",
    "Cart",
    "Paying",
    "PaymentDeclined",
    "QuoteExpired",
    "RiskDeclined",
    "Started",
    "StillPending",
    "Visitor",
    "Wish",
    "approve_manual",
    "approve_manual_refund",
    "buy_again",
    "cancel",
    "check_due",
    "clear",
    "decide_report",
    "decline",
    "decline_overdue",
    "expire_due",
    "forget_method",
    "fulfil",
    "hear",
    "locked_until",
    "pay",
    "propose_manual",
    "propose_manual_refund",
    "recheck",
    "report_good",
    "request_refund",
    "restock",
    "return_partial",
    "return_surplus",
    "return_undelivered",
    "saved_by",
    "saved_methods",
    "send",
    "start",
]
