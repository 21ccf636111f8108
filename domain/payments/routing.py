"""Which provider and account takes a method: today the one that offers it; success rates and cost plug in here."""

from __future__ import annotations

from dataclasses import dataclass

from domain.core.errors import DomainError
from domain.core.money import UnsupportedCurrency
from domain.payments.ports import Method, MethodKind, providers

# The platform's own account at a provider; merchants' own accounts come with their provider credentials.
MAIN_ACCOUNT = "main"


class UnknownMethod(DomainError):
    """No installed provider offers this payment method."""

    code = "PAYMENT_METHOD_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Offer:
    """A method and who would take it."""

    provider: str
    account: str
    method: Method


def offers() -> list[Offer]:
    """Every method of every installed provider, by name."""
    return [
        Offer(name, MAIN_ACCOUNT, method)
        for name, provider in sorted(providers.items())
        for method in provider.methods
    ]


def route(code: str, currency: str) -> Offer:
    """The provider for a method and currency. Errors: UnknownMethod, UnsupportedCurrency (before any attempt)."""
    fitting = [offer for offer in offers() if offer.method.code == code]
    if not fitting:
        raise UnknownMethod(path=("input", "method"), method=code[:64])
    for offer in fitting:
        if currency in offer.method.currencies:
            return offer
    raise UnsupportedCurrency(path=("input", "method"), currency=currency)


def retired(provider: str, code: str) -> Offer:
    """An offer that is no longer installed, so that what was paid with it stays readable."""
    return Offer(provider, MAIN_ACCOUNT, Method(code, MethodKind.REDIRECT, ()))
