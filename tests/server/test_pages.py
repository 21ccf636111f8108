"""The buyers' pages: strict headers, nothing inline, no page or file that is not ours, and one set of words."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from graphql import parse, validate
from starlette.applications import Starlette
from starlette.types import Message

import i18n
from domain import merchants
from domain.core import ids
from domain.core.settings import Settings, load, settings
from domain.identity import Forbidden
from resolvers.context import Context
from schema.root import schema
from server import pages
from server.graphql.documents import Refused
from server.graphql.door import Door
from server.graphql.persisted import Shelf
from server.graphql.request import Asked

# The same in every process: the tests' names carry it.
ORDER = ids.encode("ord", UUID(int=0x01A2055E_C7D1_73BD_A2B4_FB6C17347BD0))
PAGES = (f"/orders/{ORDER}", f"/pay/{ORDER}")


async def get(
    path: str, *, found: Settings | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One GET straight into the routes of the pages; the path goes in as it is."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), *given],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await Starlette(routes=pages.routes(found or settings()))(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(part.get("body", b"") for part in sent[1:])


@pytest.mark.parametrize("path", PAGES)
async def test_w11_pages_of_an_order_are_never_stored_framed_or_leaked(path: str) -> None:
    status, head, _ = await get(path)

    assert status == 200
    assert head["cache-control"] == "no-store"
    assert head["referrer-policy"] == "no-referrer"
    assert head["x-content-type-options"] == "nosniff"
    assert head["x-robots-tag"] == "noindex, nofollow"
    rules = head["content-security-policy"]
    assert "frame-ancestors 'none'" in rules
    assert "base-uri 'none'" in rules
    assert "form-action 'none'" in rules
    assert "connect-src 'self'" in rules


@pytest.mark.parametrize("path", PAGES)
async def test_h36_nothing_runs_but_our_own_files(path: str) -> None:
    _, head, body = await get(path)
    rules, html = head["content-security-policy"], body.decode()

    assert rules.startswith("default-src 'none';")
    assert "unsafe" not in rules
    assert "require-trusted-types-for 'script'" in rules
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", rules))
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S)
    assert [f'nonce="{nonce}"' in start for start, _ in scripts] == [True, True]
    for start, text in scripts:  # what is inline is data, what runs is a file
        assert (
            'type="application/json"' in start if text else f'src="/assets/{_version()}/' in start
        )
    assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style|https?://(?!www\.w3\.org)", html)


async def test_w11_every_answer_has_a_nonce_of_its_own() -> None:
    answers = [await get(PAGES[0]) for _ in range(3)]

    assert len({head["content-security-policy"] for _, head, _ in answers}) == 3


async def test_h39_a_page_says_nothing_about_its_order() -> None:
    def without_nonce(body: bytes) -> bytes:
        return re.sub(rb'nonce="[^"]+"', b"", body)

    unknown = ids.encode("ord", uuid4())
    _, _, one = await get(f"/orders/{ORDER}")
    _, _, other = await get(f"/orders/{unknown}")

    # But for the address it was asked by, which leads on to the page without scripts.
    assert without_nonce(one).count(ORDER.encode()) == 1
    assert without_nonce(one).replace(ORDER.encode(), unknown.encode()) == without_nonce(other)


@pytest.mark.parametrize("order", ["1", "ord_", "pay_x", ORDER[:-1], "%00", "<script>", "a" * 500])
async def test_j14_what_is_no_order_id_is_not_found(order: str) -> None:
    status, head, body = await get(f"/orders/{order}", accept_language="es")

    assert status == 404
    assert head["cache-control"] == "no-store"
    assert "<title>Este pedido no existe</title>" in body.decode()


async def test_an_unknown_shop_is_a_page_that_says_so(db: None) -> None:
    for handle in ("nowhere", "\ud800", "a\0b", "x" * 41, "Ж"):
        status, _, body = await get(_path(handle), accept_language="ja")

        assert status == 404
        assert "ショップが見つかりません" in body.decode()


async def test_h36_a_shop_named_by_an_attacker_is_text(db: None) -> None:
    name = "</title><script>alert(1)</script>{{nonce}}"
    owner = await merchants.open_merchant(
        "Any", base_ccy="USD", country="SG", contact_email="a@example.com"
    )
    await merchants.open_shop(owner, "evil-shop", {"en": name})

    status, head, body = await get("/s/evil-shop")

    assert status == 200
    assert head["x-robots-tag"] == "index"
    assert head["cache-control"] == "no-store"
    html = body.decode()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{nonce}}" in html


async def test_a_shop_page_says_so_when_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(handle: str) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(merchants, "shop_by_handle", away)
    status, head, body = await get("/s/demo")

    assert status == 503
    assert head["cache-control"] == "no-store"
    assert b"/js/shop.js" in body


async def test_files_are_kept_for_ever_under_their_own_version() -> None:
    name = "js/shop.js"
    status, head, body = await get(f"/assets/{_version()}/{name}")

    assert status == 200
    assert head["cache-control"] == "public, max-age=31536000, immutable"
    assert head["content-type"] == "text/javascript; charset=utf-8"
    assert head["x-content-type-options"] == "nosniff"
    assert body == (pages.FOLDER / name).read_bytes()

    again, head_again, nothing = await get(
        f"/assets/{_version()}/{name}", if_none_match=head["etag"]
    )
    assert (again, nothing) == (304, b"")
    assert head_again["etag"] == head["etag"]


async def test_files_of_another_version_are_checked_each_time() -> None:
    status, head, _ = await get("/assets/0123/css/kami.css")

    assert status == 200
    assert head["cache-control"] == "no-cache"


async def test_files_are_packed_for_those_who_can_unpack() -> None:
    _, head, packed = await get(f"/assets/{_version()}/css/kami.css", accept_encoding="gzip, br")
    _, bare, plain = await get(f"/assets/{_version()}/css/kami.css")

    assert head["content-encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    assert "content-encoding" not in bare
    assert head["vary"] == bare["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "name",
    [
        "../page.html",
        "js/../../server/app.py",
        "js/../page.html",
        "..%2fpage.html",
        "//etc/passwd",
        "/etc/passwd",
        "page.html",
        "documents/order.graphql",
        "graphiql/kami.js",
        "js/shop.js/",
        "js",
        "",
        "js/shop.js\0",
    ],
)
async def test_no_path_leads_out_of_the_files(name: str) -> None:
    status, head, body = await get(f"/assets/{_version()}/{name}")

    assert status == 404
    assert body in (b"", b"Not Found")
    assert "etag" not in head


async def test_the_root_leads_to_the_demo_shop_in_development_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, head, _ = await get("/")
    found = load().model_copy(update={"env": "production"})

    assert (status, head["location"]) == (307, "/s/demo")
    assert (await get("/", found=found))[0] == 404
    assert (await get(PAGES[0], found=found))[0] == 200


@pytest.mark.parametrize("name", sorted(pages.site().documents))
def test_every_document_fits_the_contract(name: str) -> None:
    assert validate(schema._schema, parse(pages.site().documents[name])) == []


async def test_pages_name_documents_the_door_knows() -> None:
    _, _, body = await get(PAGES[0])
    found = re.search(rb'<script type="application/json"[^>]*>(.*?)</script>', body)
    assert found is not None
    facts = json.loads(found[1])

    shelf = Shelf(pages.site().texts())
    for name, document_id in facts["documents"].items():
        assert await shelf.text(document_id, Context()) == pages.site().documents[name]
    assert facts["languages"] == list(i18n.LANGUAGES)


def test_j26_our_pages_send_registered_documents_and_no_text() -> None:
    for script in (pages.FOLDER / "js").glob("*.js"):
        text = script.read_text("utf-8")
        assert (
            re.search(r"\bquery\s*:|(query|mutation|subscription)\s*[\w(]*\s*\{", text) is None
        ), script


async def test_j26_a_door_for_registered_documents_alone_runs_every_one_of_ours() -> None:
    door = Door(schema, registered=Shelf(pages.site().texts()), documents_only=lambda _: True)
    said: list[str] = []
    for _ in range(50):
        for document_id in pages.site().document_ids().values():
            try:
                await door.prepare(Asked(None, document_id=document_id), Context())
            except Refused as refused:
                said += [error.message for error in refused.errors]
    # Sent without variables here; nothing but those is missing.
    assert [message for message in said if "Variable" not in message] == []
    with pytest.raises(Forbidden):
        await door.prepare(Asked("{ __typename }"), Context())

    # S03: what was validated once is never validated again.
    assert door.documents.misses == len(set(pages.site().documents.values()))


def test_every_language_has_every_word() -> None:
    words = pages.site().words
    assert set(words) == set(i18n.LANGUAGES)
    asked = set()
    for script in (pages.FOLDER / "js").glob("*.js"):
        asked |= set(re.findall(r'\bt\("([^"]+)"', script.read_text("utf-8")))
    base = {key.removesuffix(".one").removesuffix(".other") for key in words["en"]}
    assert asked <= base
    for language, texts in words.items():
        assert {key.removesuffix(".one").removesuffix(".other") for key in texts} == base, language
        for key in texts:
            english = words["en"].get(key) or words["en"][key.removesuffix(".other") + ".other"]
            assert _facts(texts[key]) == _facts(english), (language, key)


def test_every_state_and_event_has_words() -> None:
    words = pages.site().words["en"]
    for name, prefix in (
        ("OrderStatus", "status"),
        ("OrderEventKind", "event"),
        ("PaymentStatus", "payment"),
    ):
        for value in schema._schema.type_map[name].values:  # type: ignore[attr-defined]
            assert f"{prefix}.{value}" in words
    for key in [key for key in words if key.startswith("status.") and not key.endswith(".text")]:
        assert f"{key}.text" in words


def test_h36_scripts_write_text_only() -> None:
    risky = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
        r"|parseFloat|toFixed|http://(?!www\.w3\.org)|https://"
    )
    for script in (pages.FOLDER / "js").glob("*.js"):
        text = script.read_text("utf-8")
        assert not risky.search(text), script.name
        assert len(text.splitlines()) <= 400


def test_pages_are_small() -> None:
    files = pages.site().files
    sent = [
        len(file.packed)
        for name, file in files.items()
        # Passkeys belong to the pages of accounts, which need no other script and none of these words.
        if (not name.startswith("i18n/") or name == "i18n/en.json") and name != "js/passkey.js"
    ]
    assert sum(sent) < 40_000


def _version() -> str:
    return pages.site().version


def _path(handle: str) -> str:
    # Starlette gets paths decoded by the server; a lone surrogate is what latin-1 junk becomes.
    return f"/s/{handle}".encode("utf-8", "replace").decode()


def _facts(text: str) -> set[str]:
    return set(itertools.chain(re.findall(r"\{(\w+)\}", text)))
