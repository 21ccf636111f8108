"""The pages of accounts as a person without scripts uses them, and as another site would like to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyotp
import pytest

import i18n
from domain import identity, merchants
from domain.core import db as core
from domain.core import ids, vault
from domain.identity import Role
from resolvers.context import SESSION_COOKIE
from server.account_asking import own
from tests import make, rows
from tests.api import second_factor
from tests.database import as_owner
from tests.letters import last_token, owed
from tests.server.account_browser import ROUTES, Browser, Page

EMAIL, PASSWORD, NEW = "buyer@shop.test", "correct horse battery", "another good password"
GUEST = ("/account/sign-in", "/account/sign-up", "/account/forgot")
MINE = ("/account", "/account/methods", "/account/security")


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    yield
    second_factor.restore()


async def member(email: str = EMAIL) -> Browser:
    """Somebody with a proved address, signed in by the form."""
    await identity.sign_up(email, PASSWORD, "en", address=None)
    by = Browser()
    page = await by.open(f"/account/verify?token={await last_token()}")
    await by.submit(page, password=PASSWORD)
    assert SESSION_COOKIE in by.cookies
    return by


async def bought(email: str = EMAIL) -> str:
    """The public id of an order of a guest."""
    order = await make.order(await make.shop())
    await as_owner(
        "UPDATE orders SET email = $2, email_hash = $3 WHERE id = $1",
        order.id,
        email,
        vault.fingerprint("email", email),
    )
    return ids.encode("ord", order.id)


def said(page: Page) -> str:
    """What the page says to what was just done."""
    found = re.search(r'<p class="notice[^"]*" role="(?:alert|status)">([^<]+)</p>', page.html)
    return found[1] if found else ""


async def test_e19_a_person_without_scripts_signs_up_and_finds_the_orders(db: None) -> None:
    order = await bought()
    by = Browser()

    start = await by.open("/account")
    form = await by.open("/account/sign-up")
    mailed = await by.submit(form, email=EMAIL.upper(), new=PASSWORD)
    again = await by.submit(form, email=EMAIL.upper(), new=PASSWORD)
    link = await by.open(f"/account/verify?token={await last_token()}")
    opened = await by.submit(link, password=PASSWORD)
    home = await by.open("/account")

    assert start.path == "/account/sign-in?to=/account"
    assert EMAIL in mailed.html and EMAIL in again.html
    assert len(await owed()) == 1  # the same showing of the form, sent twice
    assert 'href="/account"' in opened.html
    assert f'href="/orders/{order}"' in home.html
    assert "Waiting for your payment" in home.html


async def test_h14_signing_in_and_out_changes_and_ends_the_session(db: None) -> None:
    by = await member()
    first = by.cookies[SESSION_COOKIE]
    home = await by.open("/account")
    out = await by.post("/account/sign-out", {})
    gone = await by.open("/account/security")
    wrong = await by.submit(out, email=EMAIL, password="wrong password")
    signed_in = await by.submit(gone, email=EMAIL, password=PASSWORD)

    assert home.status == 200
    assert out.path == "/account/sign-in"
    assert gone.path == "/account/sign-in?to=/account/security"
    assert (wrong.status, said(wrong)[:30]) == (400, "The e-mail address or the pass")
    assert EMAIL in wrong.html and "wrong password" not in wrong.html
    assert signed_in.path == "/account/security"
    assert by.cookies[SESSION_COOKIE] != first
    with_old = Browser(cookies={SESSION_COOKIE: first})
    assert (await with_old.open("/account")).path.startswith("/account/sign-in")


FOREIGN = (
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"accept": "text/html"},  # a browser that says nothing
    {"sec_fetch_site": "same-origin", "content_type": "text/plain"},
    {"sec_fetch_site": "same-origin", "content_type": "multipart/form-data; boundary=x"},
)


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda given: "-".join(given.values()))
async def test_h06_no_other_site_acts_with_a_visitors_cookie(
    db: None, headers: dict[str, str]
) -> None:
    by = await member()
    before = await rows.everything()
    paths = [one.path for one in ROUTES if "POST" in (one.methods or ()) and one.path not in LINKS]

    assert len(paths) == 9
    for path in paths:
        page = await by.post(
            path, {"do": "others", "email": "evil@shop.test", "password": PASSWORD}, **headers
        )
        assert page.status == 403, path
    assert await rows.everything() == before


LINKS = {f"/account/{kind}" for kind in ("verify", "reset", "invitation", "email", "email_undo")}


async def test_w11_h36_pages_run_one_file_of_ours_at_most_and_are_never_stored_or_framed(
    db: None,
) -> None:
    await bought()
    by = await member()
    # Names that people gave are text wherever they stand.
    await core.execute("UPDATE session SET user_agent = '<script>alert(1)</script>{{nonce}}'")
    for path in (*GUEST, *MINE):
        page = await by.open(path)
        rules = page.headers["content-security-policy"]

        assert page.status == 200, path
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["referrer-policy"] == "same-origin"
        assert rules.startswith("default-src 'none';") and "unsafe" not in rules
        assert "frame-ancestors 'none'" in rules and "form-action 'self'" in rules
        assert "require-trusted-types-for 'script'" in rules
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style|<script>", page.html), path
        for attributes, text in re.findall(r"<script([^>]*)>(.*?)</script>", page.html, re.S):
            assert re.search(r"'nonce-([^']+)'", rules)[1] in attributes  # type: ignore[index]
            assert "application/json" in attributes if text else "/js/passkey.js" in attributes
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{nonce}}" in (await by.open(MINE[2])).html


@pytest.mark.parametrize("language", i18n.LANGUAGES)
async def test_every_page_is_in_every_language_and_every_field_has_a_label(
    db: None, language: str
) -> None:
    await bought()
    by = await member()
    chosen = await by.open(f"/account?language={language}")
    assert by.cookies["kami_language"] == language
    for path in (*GUEST, *MINE):
        page = await by.open(path)

        assert f'<html lang="{language}">' in page.html
        assert not re.search(r">\s*(people|account|status)\.[a-z]", page.html)
        inputs = re.findall(r'<input id="([^"]+)"', page.html)
        assert len(inputs) == len(set(inputs)), path
        assert set(inputs) == set(re.findall(r'<label for="([^"]+)"', page.html))
    assert chosen.path == "/account"


async def test_h11_sign_up_and_forgot_say_the_same_for_every_address(db: None) -> None:
    await member()
    for path, entered in (("/account/sign-up", {"new": NEW}), ("/account/forgot", {})):
        by = Browser()
        found = []
        for email in (EMAIL, "nobody@shop.test"):
            page = await by.submit(await by.open(path), email=email, **entered)
            shown = re.sub(r'nonce="[^"]+"', "", page.html).replace(email, "ADDRESS")
            found.append((page.status, shown))
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example",
        "//evil.example",
        "/account/../x",
        "/\\evil",
        "/account\r\nX: y",
        "x",
        "",
    ],
)
async def test_h15_nobody_is_led_to_another_site(db: None, to: str) -> None:
    await identity.register(EMAIL, PASSWORD)
    by = Browser()

    page = await by.post("/account/sign-in", {"email": EMAIL, "password": PASSWORD, "to": to})

    assert own(to) == "/account"
    assert (page.path, page.status) == ("/account", 200)


async def test_h10_h13_the_second_step_is_set_up_used_and_switched_off_without_a_script(
    db: None,
) -> None:
    by = await member()
    security = await by.open("/account/security")
    refused = await by.submit(security, "enrol", password="wrong password")
    shown = await by.submit(security, "enrol", password=PASSWORD)
    secret = re.search(r"<code>([A-Z2-7 ]+)</code>", shown.html)
    assert secret is not None
    app = pyotp.TOTP(secret[1].replace(" ", ""))
    wrong = await by.submit(shown, "confirm", code="000000")
    codes = await by.submit(wrong, "confirm", code=app.now())
    kept = re.findall(r"<code>([a-z0-9-]{19})</code>", codes.html)

    await by.post("/account/sign-out", {})
    half = await by.submit(await by.open("/account/sign-in"), email=EMAIL, password=PASSWORD)
    used = await by.submit(half, code=app.now())  # the one that switched it on
    inside = await by.submit(used, code=kept[0])
    again = await by.open("/account/security")
    await second_factor.stale()
    asked = await by.submit(again, "disable")
    proved = await by.submit(asked, code=kept[1])
    off = await by.submit(proved, "disable")

    assert (refused.status, "data:image/svg+xml" in shown.html) == (400, True)
    assert wrong.status == 400
    assert len(kept) == 10 and codes.status == 200
    assert kept[0] not in again.html
    assert (used.status, used.path) == (400, "/account/sign-in/code")
    assert inside.path == "/account"
    assert "9 recovery codes are left." in again.html
    assert asked.path == "/account/proof?to=/account/security"
    assert proved.path == "/account/security?said=proved"
    assert said(off) == "The authenticator app was switched off."
    assert await core.value("SELECT count(*) FROM mfa") == 0


async def test_h14_devices_are_shown_and_signed_out(db: None) -> None:
    by = await member()
    phone = (await identity.sign_in(EMAIL, PASSWORD, None, user_agent="Firefox/1 (iPhone)")).token
    third = (await identity.sign_in(EMAIL, PASSWORD, None)).token

    security = await by.open("/account/security")
    one = await by.submit(security, "revoke")
    others = await by.submit(one, "others") if "Sign out all others" in one.html else one
    forgotten = await by.submit(others, "devices")

    assert "Firefox, iPhone" in security.html and "Unknown device" in security.html
    assert "This device" in security.html
    assert await identity.viewer(phone) is None and await identity.viewer(third) is None
    assert (await by.open("/account")).path == "/account"
    assert said(forgotten) == "Every device is a stranger again."
    assert await core.value("SELECT count(*) FROM known_device") == 0


async def test_the_password_is_changed_and_only_this_device_stays(db: None) -> None:
    by = await member()
    other = (await identity.sign_in(EMAIL, PASSWORD, None)).token
    security = await by.open("/account/security")

    short = await by.submit(security, "password", password=PASSWORD, new="short")
    done = await by.submit(security, "password", password=PASSWORD, new=NEW)

    assert short.status == 400 and "<details open>" in short.html
    assert done.path == "/account/security?said=password"
    assert await identity.viewer(other) is None
    assert (await identity.sign_in(EMAIL, NEW, None)).account_id


async def test_e19_the_address_is_changed_and_taken_back_by_the_links(db: None) -> None:
    order = await bought()
    by = await member()
    security = await by.open("/account/security")
    asked = await by.submit(security, "email", email="new@shop.test", password=PASSWORD)
    tokens = {one.letter: one.token for one in await owed()}

    form = await by.open(f"/account/email?token={tokens['email_change']}")
    wrong = await by.submit(form, password="wrong password")
    done = await by.submit(form, password=PASSWORD)
    home = await by.open("/account")
    undo = await Browser().open(f"/account/email_undo?token={tokens['email_undo']}")
    back = await Browser().submit(undo, password=NEW)
    over = await by.open("/account")

    assert asked.path == "/account/security?said=email"
    assert wrong.status == 400 and "new@shop.test" in form.html
    assert "Your address was changed" in done.html
    assert "new@shop.test" in home.html and order in home.html
    assert "The change was taken back" in back.html
    assert over.path.startswith("/account/sign-in")
    assert (await identity.sign_in(EMAIL, NEW, None)).account_id


async def test_h03_an_order_is_shown_to_its_merchants_people_and_to_nobody_else(db: None) -> None:
    shop = await make.shop()
    order = await make.order(shop)
    path = f"/account/orders/{ids.encode('ord', order.id)}"
    guest = await Browser().open(path)
    stranger, seller = await member(), await member("seller@shop.test")
    account = await identity.account_by_email("seller@shop.test")
    assert account is not None
    await identity.grant(shop.merchant_id, account.id, Role.SUPPORT)

    hidden = await stranger.open(path)
    unknown = await stranger.open(f"/account/orders/{ids.encode('ord', ids.uuid7())}")
    shown = await seller.open(path)
    home = await seller.open("/account")
    name = (await merchants.merchants([shop.merchant_id]))[shop.merchant_id].name

    assert guest.path == f"/account/sign-in?to={path}"
    assert (hidden.status, unknown.status) == (404, 404)
    assert order.number not in hidden.html
    assert shown.status == 200 and order.number in shown.html
    assert "<form" in shown.html and shown.html.count("<form") == 1  # signing out alone
    assert name in home.html and "Support" in home.html


async def test_h10_a_throttled_form_says_when_to_come_back(db: None) -> None:
    await identity.register(EMAIL, PASSWORD)
    by = Browser()
    page = await by.open("/account/sign-in")
    for _ in range(identity.rules.TRIES_PAIR_MAX):
        page = await by.submit(page, email=EMAIL, password="wrong password")
    refused = await by.submit(page, email=EMAIL, password=PASSWORD)

    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 900
    assert SESSION_COOKIE not in by.cookies


async def test_a_database_that_is_away_is_said_in_the_readers_words(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = await member()
    by.language = "ja"

    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(by.door, "authenticate", away)
    pages = [await by.open(path) for path in MINE]
    sent = await by.post("/account/security", {"do": "others"})

    for page in (*pages, sent):
        assert page.status == 503
        assert i18n.text("UNAVAILABLE", "ja") in page.html
