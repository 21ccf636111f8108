"""The GeoIP locator: every record shape, odd addresses, a file that changes while it is read."""

from __future__ import annotations

import lzma
import os
import threading
import time
from pathlib import Path

import maxminddb
import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from plugins.geo import maxmind
from plugins.geo.maxmind import MaxMind, code_of


def write(path: Path, **countries: str) -> None:
    """A country file: `HK="8.8.8.0/24"`; written beside and renamed, as the manual says."""
    writer = MMDBWriter(6, "Test-Country", languages=["en"], ipv4_compatible=True)
    for code, network in countries.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    draft = path.with_suffix(".new")
    writer.to_db_file(str(draft))
    draft.replace(path)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look-up may look for a change."""
    monkeypatch.setattr(maxmind, "CHECK_EVERY_S", -1)


def settled(locator: MaxMind, address: str) -> str | None:
    """Look up, let every reload that it started end, look up again."""
    locator.country(address)
    until = time.monotonic() + 5
    while any(thread.name == "geoip" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.002)
    return locator.country(address)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> MaxMind:
    return MaxMind(None, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("203.198.0.1", "HK"),
        ("202.96.128.86", "CN"),
        ("133.11.0.1", "JP"),
        ("80.58.61.250", "ES"),
        ("165.21.83.88", "SG"),
        ("168.95.1.1", "TW"),
        ("8.8.8.8", "US"),
        ("::ffff:203.198.0.1", "HK"),
        ("2001:4860:4860::8888", "US"),
    ],
)
def test_public_addresses_resolve_on_a_fresh_machine(
    shipped: MaxMind, address: str, country: str
) -> None:
    assert shipped.country(address) == country


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "203.0.113.7",
        "127.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "",
        "testclient",
        "999.1.1.1",
        "1.2.3.4:80",
        "::ffff:",
        "١٢٧.٠.٠.١",
        "/run/kami.sock",
        "\x00",
    ],
)
def test_x02_private_and_odd_addresses_have_no_country(shipped: MaxMind, address: str) -> None:
    assert shipped.country(address) is None


def test_the_shipped_file_is_unpacked_once(tmp_path: Path) -> None:
    MaxMind(None, tmp_path)
    (copy,) = tmp_path.iterdir()
    made_at = copy.stat().st_mtime_ns

    MaxMind(None, tmp_path)

    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [made_at]


def test_a_damaged_shipped_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "country.mmdb.xz"
    damaged.write_bytes(lzma.compress(b"not a database"))
    monkeypatch.setattr(maxmind, "SHIPPED", damaged)

    with pytest.raises(maxminddb.InvalidDatabaseError):
        MaxMind(None, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("record", "country"),
    [
        ({"country": {"iso_code": "HK"}, "registered_country": {"iso_code": "US"}}, "HK"),
        ({"registered_country": {"iso_code": "US"}}, "US"),
        ({"country": {"names": {"en": "?"}}}, None),
        ({"country_code": "hk"}, "HK"),
        ({"country": "JP"}, "JP"),
        ({"country_code": None}, None),
        ({"country_code": ""}, None),
        ({"country_code": "HKG"}, None),
        ({}, None),
        (None, None),
        ("HK", None),
    ],
)
def test_every_record_shape(record: object, country: str | None) -> None:
    assert code_of(record) == country


def test_a_wrong_path_or_file_refuses_to_start(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.mmdb"
    garbage.write_bytes(b"garbage" * 100)

    with pytest.raises(FileNotFoundError):
        MaxMind(tmp_path / "missing.mmdb", tmp_path / "cache")
    with pytest.raises(maxminddb.InvalidDatabaseError):
        MaxMind(garbage, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*")) == []


@pytest.mark.usefixtures("at_once")
def test_x01_a_new_file_is_used_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "geoip.mmdb"
    write(path, HK="8.8.8.0/24")
    locator = MaxMind(path, tmp_path / "cache")
    assert locator.country("8.8.8.9") == "HK"

    write(path, JP="8.8.8.0/24")

    assert settled(locator, "8.8.8.9") == "JP"


@pytest.mark.usefixtures("at_once")
def test_x01_a_broken_or_missing_file_changes_nothing_and_the_next_good_one_is_used(
    tmp_path: Path,
) -> None:
    path = tmp_path / "geoip.mmdb"
    write(path, HK="8.8.8.0/24")
    locator = MaxMind(path, tmp_path / "cache")

    path.write_bytes(path.read_bytes()[:500])  # half of an upload, in place
    assert settled(locator, "8.8.8.9") == "HK"
    path.unlink()
    assert settled(locator, "8.8.8.9") == "HK"
    write(path, SG="8.8.8.0/24")

    assert settled(locator, "8.8.8.9") == "SG"


@pytest.mark.usefixtures("at_once")
def test_x01_overwriting_in_place_does_not_kill_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "geoip.mmdb"
    write(path, HK="8.8.8.0/24")
    locator = MaxMind(path, tmp_path / "cache")

    os.truncate(path, 0)  # a mapped file would raise SIGBUS here

    assert settled(locator, "8.8.8.9") == "HK"


@pytest.mark.usefixtures("at_once")
def test_x01_threads_read_through_many_changes(tmp_path: Path) -> None:
    path = tmp_path / "geoip.mmdb"
    write(path, HK="8.8.8.0/24")
    locator = MaxMind(path, tmp_path / "cache")
    seen: set[str | None] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(locator.country("8.8.8.9"))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for code in ("JP", "SG", "ES", "FR"):
        write(path, **{code: "8.8.8.0/24"})
        settled(locator, "8.8.8.9")
    stop.set()
    for reader in readers:
        reader.join(5)

    assert settled(locator, "8.8.8.9") == "FR"
    assert seen <= {"HK", "JP", "SG", "ES", "FR"}
    assert len(list((tmp_path / "cache").iterdir())) <= maxmind.KEEP_COPIES


def test_the_file_is_not_looked_at_in_every_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "geoip.mmdb"
    write(path, HK="8.8.8.0/24")
    locator = MaxMind(path, tmp_path / "cache")
    looks: list[Path] = []
    monkeypatch.setattr(maxmind, "_mark", looks.append)

    for _ in range(1000):
        locator.country("8.8.8.9")

    assert looks == []
