"""The scalars of the contract for declarations; what they accept is in `resolvers.scalars`, beside the inputs."""

from resolvers.scalars import (
    JSON,
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
