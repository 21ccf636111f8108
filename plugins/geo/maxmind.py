"""Country of an address from a MaxMind DB file: the operator's (`KAMI_GEOIP_DB`) or the shipped.

The file is copied beside the other caches and the copy is mapped into memory: overwriting a mapped
file in place kills the process that reads it. A change of the operator's file is noticed within
seconds, loaded in a thread, and swapped in whole; a broken file is reported and the old one stays.
"""

from __future__ import annotations

import hashlib
import ipaddress
import lzma
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Final

import maxminddb
import structlog

from domain.core import clock

CHECK_EVERY_S = 3.0
KEEP_COPIES = 2

SHIPPED: Final = Path(__file__).parent / "data" / "country.mmdb.xz"
SHIPPED_SHA256: Final = "c5f7c0e9bd6a6ccb5a2e9634764544a0d08bd0bd8788b8aedfac87bea184c652"

_MAPPED: Final = "::ffff:"
_log = structlog.get_logger(__name__)

Mark = tuple[int, int, int]


class MaxMind:
    """A locator over one MaxMind DB file; a few microseconds a look-up, mostly no system call.

    Errors of the constructor: OSError and maxminddb.InvalidDatabaseError, so that a wrong path or
    file refuses to start instead of sending everybody to the default market.
    """

    name = "maxmind"

    def __init__(self, path: Path | None, cache: Path) -> None:
        self._path = path
        self._cache = cache
        self._mark = _mark(path) if path else None
        self._reader = _open(path, cache)
        self._checked_at = clock.monotonic()
        self._changing = threading.Lock()

    def country(self, address: str) -> str | None:
        """The country of an IPv4 or IPv6 address, also IPv4 written as IPv6; None when unknown."""
        if self._path is not None and clock.monotonic() - self._checked_at > CHECK_EVERY_S:
            self._look_for_change()
        if address.startswith(_MAPPED):
            address = address.removeprefix(_MAPPED)
        try:
            found = ipaddress.ip_address(address)
        except ValueError:  # not an address: a test client, a socket path
            return None
        # Some files, the shipped one too, place private networks in the country of their registry.
        return code_of(self._reader.get(found)) if found.is_global else None

    def _look_for_change(self) -> None:
        assert self._path is not None
        if not self._changing.acquire(blocking=False):
            return
        try:
            self._checked_at = clock.monotonic()
            mark = _mark(self._path)
            if mark != self._mark:
                self._mark = mark
                threading.Thread(target=self._reload, name="geoip", daemon=True).start()
        except OSError as error:  # between delete and rename of a careless update
            _log.warning("geoip.file_missing", path=str(self._path), error=str(error))
        finally:
            self._changing.release()

    def _reload(self) -> None:
        try:
            reader = _open(self._path, self._cache)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            _log.error("geoip.file_refused", path=str(self._path), error=str(error))
            return
        # The old reader is not closed but dropped: look-ups of other threads may still be inside
        # it.
        self._reader = reader
        _log.info("geoip.reloaded", path=str(self._path), built=reader.metadata().build_epoch)


def code_of(record: Any) -> str | None:
    """The country in a record of any common shape, in upper case.

    `{"country": {"iso_code": "HK"}}` MaxMind and DB-IP · `{"country_code": "HK"}` ip-location-db ·
    `{"country": "HK"}` IPinfo. Where an address has no country, its registered country counts.
    """
    if not isinstance(record, dict):
        return None
    code = record.get("country_code")
    if code is None:
        code = _inner(record.get("country")) or _inner(record.get("registered_country"))
    return code.upper() if isinstance(code, str) and len(code) == 2 else None


def _inner(value: Any) -> Any:
    return value.get("iso_code") if isinstance(value, dict) else value


def _mark(path: Path) -> Mark:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _open(path: Path | None, cache: Path) -> maxminddb.Reader:
    cache.mkdir(parents=True, exist_ok=True)
    if path is None:
        copy = cache / f"geoip-shipped-{SHIPPED_SHA256[:12]}.mmdb"
        if not copy.exists():
            content = lzma.decompress(SHIPPED.read_bytes())
            if hashlib.sha256(content).hexdigest() != SHIPPED_SHA256:
                raise maxminddb.InvalidDatabaseError(f"{SHIPPED} is damaged")
            draft = _draft(copy)
            draft.write_bytes(content)
            draft.replace(copy)
        return maxminddb.open_database(copy, maxminddb.MODE_AUTO)
    copy = cache / "geoip-{}-{}-{}.mmdb".format(*_mark(path))
    if not copy.exists():
        draft = _draft(copy)
        try:
            shutil.copyfile(path, draft)
            maxminddb.open_database(draft, maxminddb.MODE_AUTO).close()
            draft.replace(copy)
        finally:
            draft.unlink(missing_ok=True)
    reader = maxminddb.open_database(copy, maxminddb.MODE_AUTO)
    _forget_old(cache)
    return reader


def _draft(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")


def _forget_old(cache: Path) -> None:
    """Keep the newest copies: another process may be about to open the one it has just made."""
    copies = sorted(cache.glob("geoip-[0-9]*.mmdb"), key=lambda path: path.stat().st_mtime_ns)
    for path in copies[:-KEEP_COPIES]:
        path.unlink(missing_ok=True)
