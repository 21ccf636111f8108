"""The ECB's daily reference rates over HTTPS: one small XML file on every working day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final
from xml.parsers import expat

import aiohttp

from domain.core import clock
from domain.fx.ports import FeedFailed, Published

URL: Final = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"
TIMEOUT_S: Final = 10.0
BODY_MAX: Final = 64 * 1024  # the real one has two kilobytes
CURRENCIES_MAX: Final = 200
AHEAD_MAX: Final = timedelta(days=1)

# Published at about 16:00 Frankfurt time: 14:00 UTC in summer, 15:00 in winter; the day is what counts.
_HOUR_UTC: Final = 14


@dataclass(frozen=True, slots=True)
class Ecb:
    """The live table; `stale_after` is counted from the day the ECB names, weekends included."""

    stale_after: timedelta
    url: str = URL
    timeout_s: float = TIMEOUT_S
    name: str = "ecb"

    async def fetch(self) -> Published:
        """One request without redirects. Errors: FeedFailed."""
        taken_at, rates = read(await self._body())
        return Published(
            provider="ecb",
            base="EUR",
            taken_at=taken_at,
            stale_at=taken_at + self.stale_after,
            rates=rates,
        )

    async def _body(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        try:
            async with (
                # Packed bodies are not asked for and not unpacked: the bound below counts every byte.
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(
                    self.url, allow_redirects=False, headers={"Accept-Encoding": "identity"}
                ) as answer,
            ):
                if answer.status != 200:
                    raise _failed(f"status {answer.status}")
                body = bytearray()
                async for piece in answer.content.iter_chunked(8192):
                    body += piece
                    if len(body) > BODY_MAX:
                        raise _failed("body too long")
                return bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _failed(type(error).__name__) from error


def _failed(reason: str) -> FeedFailed:
    return FeedFailed(provider="ecb", reason=reason)


def read(body: bytes) -> tuple[datetime, dict[str, Decimal]]:
    """The time and rates in an `eurofxref` document.

    A document type is refused, and with it every kind of entity. Errors: FeedFailed for anything that is
    not exactly one dated table of plain decimal rates.
    """
    found = _Reader()
    try:
        found.parse(body)
    except expat.ExpatError as error:
        raise _failed("not XML") from error
    if len(found.days) != 1 or not found.rates:
        raise _failed("no table")
    try:
        day = datetime.strptime(found.days[0], "%Y-%m-%d").replace(hour=_HOUR_UTC, tzinfo=UTC)
        rates = {currency: _decimal(rate) for currency, rate in found.rates.items()}
    except (ValueError, InvalidOperation) as error:
        raise _failed("odd value") from error
    if day > clock.now() + AHEAD_MAX:
        raise _failed("from the future")
    return day, rates


def _decimal(text: str) -> Decimal:
    if not text.isascii() or not text.replace(".", "", 1).isdigit():
        raise ValueError(text[:40])
    return Decimal(text)


class _Reader:
    """Collects `<Cube time=…>` and `<Cube currency=… rate=…/>`; nothing else is looked at."""

    def __init__(self) -> None:
        self.days: list[str] = []
        self.rates: dict[str, str] = {}
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._element

    def parse(self, body: bytes) -> None:
        self._parser.Parse(body, True)

    def _doctype(self, *_: object) -> None:
        raise _failed("document type")

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        if name.rpartition(" ")[2] != "Cube":
            return
        if "time" in attributes:
            self.days.append(attributes["time"])
        currency, rate = attributes.get("currency"), attributes.get("rate")
        if currency is None or rate is None:
            return
        if currency in self.rates or len(self.rates) >= CURRENCIES_MAX:
            raise _failed("double or too many currencies")
        self.rates[currency] = rate
