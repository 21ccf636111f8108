"""`kami demo buy`: a real purchase against the running platform, told step by step; clear words when it cannot be."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.console import Console

from domain.core.settings import ROOT, settings
from server import demo
from server.demo import Wish
from tests.journeys import checker
from tests.live import LiveServer, free_port


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    yield
    settings.cache_clear()


async def bought(url: str, wish: Wish | None = None) -> tuple[int, str]:
    """(exit code, what was printed)."""
    out = io.StringIO()
    code = await demo.buy(url, wish, console=Console(file=out, width=120, highlight=False))
    return code, out.getvalue()


async def test_demo_buy_shows_every_step_the_goods_and_where_the_money_went(
    live_server: LiveServer, live_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMI_DATA_DIR", str(live_server.data_dir))
    monkeypatch.setenv("KAMI_PUBLIC_URL", live_server.url)
    settings.cache_clear()
    code, told = await bought(live_server.url)

    assert code == 0, told
    steps = re.findall(r"^(\S+(?: \d+)?) +[\d,.]+ ms", told, re.MULTILINE)
    assert [one for one in steps if not one.startswith("event")] == [
        "market",
        "shop",
        "startCheckout",
        "orderEvents",
        "pay",
        "provider",
    ]
    assert [one for one in steps if one.startswith("event")] == [f"event {n}" for n in range(1, 5)]
    assert told.index("callback heard, order paid") < told.index("goods delivered")
    assert len(re.findall(r"STAR-(?:[A-Z0-9]{4}-?){4}", told)) == 1
    assert re.search(r"commission +│ +0\.29 ", told)
    assert re.search(r"Where 4\.90 USD went, as the merchant sees it", told)
    assert re.search(r"From the click on pay to the goods: [\d,]+ ms", told)
    assert await checker.faults(at_rest=False) == []


async def test_demo_buy_again_is_one_call_and_the_goods(
    live_server: LiveServer, live_db: None
) -> None:
    code, told = await bought(live_server.url, Wish(again=True))

    assert code == 0, told
    assert re.search(r"^savedMethods +[\d,.]+ ms +Sandbox ····4242$", told, re.MULTILINE)
    assert re.search(r"^buyAgain +[\d,.]+ ms +order K\d{6}-\w+: (processing|captured)$", told, re.M)
    keys = re.findall(r"STAR-(?:[A-Z0-9]{4}-?){4}", told)
    assert len(keys) == len(set(keys)) == 2
    assert len(re.findall(r"From the click on pay to the goods: [\d,]+ ms", told)) == 2
    assert told.count("callback heard, order paid") == 2
    assert await checker.faults(at_rest=False) == []


async def test_demo_buy_from_elsewhere_in_another_currency(live_server: LiveServer) -> None:
    code, told = await bought(live_server.url, Wish(country="ch", quantity=2, product="music"))

    assert code == 0, told
    assert "CH · CHF" in told
    assert re.search(r"1 USD = 0\.\d+ CHF, locked; reference 0\.\d+ \(ecb", told)
    assert len(re.findall(r"LMEN-", told)) == 2
    # Without the login of the box it is a buyer's view: the seller's part is one.
    assert re.search(r"went, as the buyer sees it", told)
    assert "commission" not in told


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(product="no such thing"), "Nothing on the shelf is called “no such thing”"),
        (Wish(product="Sandbox .01"), "The provider declined. Nothing was taken."),
        (Wish(currency="XXX"), "BAD_USER_INPUT"),
        (Wish(quantity=999_999), "startCheckout says INVALID_INPUT"),
        (Wish(method="cash"), "pay says PAYMENT_METHOD_UNAVAILABLE"),
        (Wish(shop="nobody"), "There is no shop “nobody” here."),
    ],
)
async def test_demo_buy_says_why_it_stopped(
    live_server: LiveServer, wish: Wish, words: str
) -> None:
    code, told = await bought(live_server.url, wish)

    assert code == 1
    assert words in " ".join(told.split())
    assert "Traceback" not in told


async def test_demo_buy_says_what_to_do_when_nothing_runs() -> None:
    code, told = await bought(f"http://127.0.0.1:{free_port()}")

    assert code == 1
    assert "Nothing answers" in told
    assert "make run" in told


def test_the_command_finds_the_platform_by_its_data_folder(live_server: LiveServer) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KAMI_")}
    environment |= {
        "KAMI_ENV": "test",
        "KAMI_DATA_DIR": str(live_server.data_dir),
        "COLUMNS": "120",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "server.cli", "demo", "buy", "--from", "HK"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "HK · HKD" in done.stdout
    assert "38.00 HKD" in done.stdout
