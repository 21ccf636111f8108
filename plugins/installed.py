"""The table of everything replaceable: one line per plugin; `load` puts each behind its port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from domain.core.settings import Settings
from domain.notifications.ports import notifiers
from domain.payments.ports import providers
from plugins.notifier import smtp
from plugins.notifier.mailbox import Mailbox
from plugins.payment.sandbox import Sandbox


def load(settings: Settings) -> None:
    """Install every plugin the settings enable. Errors: SettingsWrong naming what one is missing."""
    for install in INSTALLED.values():
        install(settings)


async def close() -> None:
    """Close the connections that plugins hold in the running loop; they may be used again."""
    for close_one in list(_closing.values()):
        await close_one()


def _sandbox(settings: Settings) -> None:
    if not settings.sandbox_url:
        return
    secret = settings.secret("sandbox_secret")
    sandbox = Sandbox(base_url=settings.sandbox_url, secret=secret)
    providers["sandbox"] = sandbox
    _closing["payment.sandbox"] = sandbox.close


def _mail(settings: Settings) -> None:
    """A real server when one is named, else a folder to look into; in production no server means no mail."""
    if settings.smtp_url:
        notifiers["mail"] = smtp.parse(settings.smtp_url)
    elif settings.in_development:
        notifiers["mail"] = Mailbox(settings.data_dir / "mail")


_closing: dict[str, Callable[[], Awaitable[None]]] = {}

INSTALLED: dict[str, Callable[[Settings], None]] = {
    "payment.sandbox": _sandbox,
    "notifier.mail": _mail,
}
