"""The table of everything replaceable: one line per plugin; `load` puts each behind its port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from domain.catalogue.ports import suppliers
from domain.core.settings import Settings
from domain.fx.ports import feeds
from domain.geo.ports import locators
from domain.notifications.ports import notifiers
from domain.payments.ports import own_accounts, providers
from domain.webhooks.ports import carriers
from plugins.fx.ecb import Ecb
from plugins.fx.ecb_snapshot import EcbSnapshot
from plugins.fx.manual import manual
from plugins.geo.maxmind import MaxMind
from plugins.notifier import smtp
from plugins.notifier.mailbox import Mailbox
from plugins.payment.manual import Manual
from plugins.payment.sandbox import Sandbox
from plugins.supplier.http import HttpSupplier
from plugins.webhook.http import HttpCarrier


def load(settings: Settings) -> None:
    """Install every plugin the settings enable. Errors: SettingsWrong naming what is missing."""
    for install in INSTALLED.values():
        install(settings)


async def close() -> None:
    """Close the connections that plugins hold in the running loop; they may be used again."""
    for close_one in list(_closing.values()):
        await close_one()


def _manual(settings: Settings) -> None:
    providers["manual"] = Manual()


def _sandbox(settings: Settings) -> None:
    if not settings.sandbox_url:
        return
    secret = settings.secret("sandbox_secret")
    sandbox = Sandbox(base_url=settings.sandbox_url, secret=secret)
    providers["sandbox"] = sandbox
    own_accounts["sandbox"] = sandbox
    _closing["payment.sandbox"] = sandbox.close


def _mail(settings: Settings) -> None:
    """A real server when one is named, else a folder to look into; in production no server means no mail."""
    if settings.smtp_url:
        notifiers["mail"] = smtp.parse(settings.smtp_url)
    elif settings.in_development:
        notifiers["mail"] = Mailbox(settings.data_dir / "mail")


def _geo(settings: Settings) -> None:
    """The operator's country file, else the shipped one."""
    locators["geoip"] = MaxMind(settings.geoip_db, settings.data_dir / "cache")


def _fx(settings: Settings) -> None:
    """The one feed the settings name; the shipped snapshot ages only where real money moves."""
    stale_after = timedelta(hours=settings.fx_stale_after_h)
    if settings.fx_feed == "ecb":
        feeds["ecb"] = Ecb(stale_after)
    elif settings.fx_feed == "manual":
        feeds["manual"] = manual(settings.fx_manual_rates)
    else:
        feeds["ecb_snapshot"] = EcbSnapshot(None if settings.in_development else stale_after)


def _suppliers(settings: Settings) -> None:
    """Those the operator names; a variant finds its supplier by that name."""
    for name, place in settings.suppliers.items():
        supplier = HttpSupplier(name, place.url, place.secret.get_secret_value().encode())
        suppliers[name] = supplier
        _closing[f"supplier.{name}"] = supplier.close


def _webhooks(settings: Settings) -> None:
    """To the public internet by HTTPS; the development switch opens this machine too."""
    carrier = HttpCarrier(is_open=settings.webhooks_to_loopback)
    carriers["http"] = carrier
    _closing["webhook.http"] = carrier.close


_closing: dict[str, Callable[[], Awaitable[None]]] = {}

INSTALLED: dict[str, Callable[[Settings], None]] = {
    "payment.manual": _manual,
    "payment.sandbox": _sandbox,
    "notifier.mail": _mail,
    "geo": _geo,
    "fx": _fx,
    "supplier": _suppliers,
    "webhook": _webhooks,
}
