"""The scalars of the contract for declarations; what they accept is in `resolvers.scalars`, beside the inputs."""

from strawberry.scalars import JSON

from resolvers.scalars import (
    SCALARS,
    BigInt,
    CountryCode,
    CurrencyCode,
    Decimal,
    LanguageCode,
    refuse,
)

__all__ = [
    "JSON",
    "SCALARS",
    "BigInt",
    "CountryCode",
    "CurrencyCode",
    "Decimal",
    "LanguageCode",
    "refuse",
]
