"""Who is at the door: the client's address and the hints it sends about itself."""

import ipaddress
import re
from enum import Enum

import strawberry
from strawberry.scalars import JSON

from domain import checkout, geo
from domain.core import ids, vault
from resolvers.context import Asked

DEVICE_MAX = 128
WALLETS_MAX = 20
_ZONE = re.compile(r"[A-Za-z0-9_+\-/]{1,64}", re.ASCII)


@strawberry.enum(description="Where the buyer holds the page.")
class Platform(Enum):
    """See domain.geo.Platform."""

    WEB = "web"
    IOS = "ios"
    ANDROID = "android"
    DESKTOP = "desktop"


@strawberry.input(
    description="What a client says about itself; used for ranking and risk, never as authority."
)
class SignalsInput:
    """All optional."""

    platform: Platform | None = strawberry.field(
        default=None, description="Where the page is held."
    )
    wallets: list[str] | None = strawberry.field(
        default=None,
        description="Wallets the device can open, e.g. apple_pay; the first 20 are read.",
    )
    device_id: str | None = strawberry.field(
        default=None, description="A stable id the client keeps, at most 128 characters."
    )
    time_zone: str | None = strawberry.field(default=None, description="IANA zone of the device.")
    buyer_address: str | None = strawberry.field(
        default=None,
        description="From an app that sells: the address its buyer seems to have. A hint for risk alone, kept as a "
        "hash; where the buyer is says `country`. Of anybody else it is ignored.",
    )
    behaviour: JSON | None = strawberry.field(
        default=None, description="Free-form measurements of the page, at most 16 levels deep."
    )


def platform_of(signals: SignalsInput | None) -> geo.Platform | None:
    """The platform a client named."""
    return geo.Platform(signals.platform.value) if signals and signals.platform else None


def _address(text: str | None) -> str | None:
    """An IP address in its one spelling; None for anything else."""
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def of(info: Asked, signals: SignalsInput | None) -> checkout.Visitor:
    """The visitor behind this operation."""
    context = info.context
    kept: dict[str, object] = {}
    if signals is not None:
        if signals.time_zone and _ZONE.fullmatch(signals.time_zone):
            kept["time_zone"] = signals.time_zone
        if signals.wallets:
            kept["wallets"] = [wallet[:32] for wallet in signals.wallets[:WALLETS_MAX]]
        if signals.behaviour is not None:
            kept["behaviour"] = signals.behaviour
    place = context.market
    platform = platform_of(signals)
    is_located = place.source is geo.Source.GEOIP
    if context.viewer is not None and (app := context.viewer.app) is not None:
        # The address is the app's: it says nothing of where the buyer is, and what the app says of it is no proof.
        is_located = False
        kept["app"] = ids.encode("app", app.app_id)
        if signals is not None and (known := _address(signals.buyer_address)) is not None:
            kept["buyer_address"] = vault.fingerprint("address", known).hex()
    return checkout.Visitor(
        address=context.address or "unknown",
        geo_country=place.country if is_located else None,
        device_id=signals.device_id[:DEVICE_MAX] if signals and signals.device_id else None,
        platform=platform.value if platform else "",
        signals=kept,
    )
