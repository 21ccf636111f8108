"""Payments: attempts, the inbox of providers' words, captures and refunds."""

from domain.payments.attempts import (
    AttemptLive,
    Opening,
    answer,
    apply_many,
    close,
    due_for_check,
    find,
    intents,
    live_of,
    new_id,
    open_attempts,
)
from domain.payments.captures import (
    attempts_of,
    due,
    free,
    kept_of,
    park_culprit,
    parked_of,
    store,
    taken_of,
)
from domain.payments.captures import of_order as captures_of
from domain.payments.inbox import (
    WordUnreadable,
    judged,
    put,
    put_answer,
    receive,
    unpark,
    waiting,
)
from domain.payments.manual import PROVIDER as MANUAL
from domain.payments.manual import EvidenceUsed, is_evidence_used, put_manual
from domain.payments.models import Attempt, Capture, Refund, Word, sub_of
from domain.payments.refunds import OPEN as OPEN_REFUND
from domain.payments.refunds import (
    create_refund,
    find_refund,
    give_back_capture,
    move_refund,
    provider_of,
    refunds_of,
)
from domain.payments.routing import Offer, UnknownMethod, offers, retired, route

__all__ = [
    "MANUAL",
    "OPEN_REFUND",
    "Attempt",
    "AttemptLive",
    "Capture",
    "EvidenceUsed",
    "Offer",
    "Opening",
    "Refund",
    "UnknownMethod",
    "Word",
    "WordUnreadable",
    "answer",
    "apply_many",
    "attempts_of",
    "captures_of",
    "close",
    "create_refund",
    "due",
    "due_for_check",
    "find",
    "find_refund",
    "free",
    "give_back_capture",
    "intents",
    "is_evidence_used",
    "judged",
    "kept_of",
    "live_of",
    "move_refund",
    "new_id",
    "offers",
    "open_attempts",
    "park_culprit",
    "parked_of",
    "provider_of",
    "put",
    "put_answer",
    "put_manual",
    "receive",
    "refunds_of",
    "retired",
    "route",
    "store",
    "sub_of",
    "taken_of",
    "unpark",
    "waiting",
]
