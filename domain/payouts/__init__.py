"""Payouts: where a merchant's money may be sent, changed by two people and after a cool-down.

`propose_method` and `propose_removal` ask, `approve_method` is the second person, `settle_methods` lets hold what has
cooled down.
"""

from domain.payouts.methods import (
    KIND,
    PayoutMethodKnown,
    PayoutMethodNotUsable,
    Replaced,
    approve_method,
    propose_method,
    propose_removal,
    settle_methods,
)
from domain.payouts.models import MethodState, PayoutMethod
from domain.payouts.queries import find_method, methods_of
from domain.payouts.rules import Destination, MethodKind

__all__ = [
    "KIND",
    "Destination",
    "MethodKind",
    "MethodState",
    "PayoutMethod",
    "PayoutMethodKnown",
    "PayoutMethodNotUsable",
    "Replaced",
    "approve_method",
    "find_method",
    "methods_of",
    "propose_method",
    "propose_removal",
    "settle_methods",
]
