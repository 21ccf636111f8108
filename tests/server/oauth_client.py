"""An app and a person's browser against our OAuth endpoints, in this process: real forms, real pages, no network."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field, replace
from functools import cache
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.types import ASGIApp

from domain import identity, partners
from domain.core import clock, ids
from domain.core.audit import Actor
from domain.core.settings import settings
from domain.identity import Role
from domain.partners import AuthMethod, GrantType, Manifest, Scope
from server import app as applications
from tests import make

CALLBACK = "https://app.example/callback?from=kami"
PASSWORD = "correct horse battery"
VERIFIER = "v" * 43
ALL_GRANTS = tuple(str(one) for one in GrantType)
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@cache
def served() -> ASGIApp:
    """The whole application without its lifespan."""
    return applications.create_app()


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def query(self) -> dict[str, str]:
        """The parameters of where it leads."""
        return dict(parse_qsl(urlsplit(self.headers["location"]).query))


async def send(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """One request."""
    sent: list[Any] = []
    parts = urlsplit(path)

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send_(message: Any) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:8000", **(headers or {})}
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("203.0.113.9", 1),
        "server": ("127.0.0.1", 8000),
    }
    await served()(scope, receive, send_)
    # Of several cookies the first: the session's.
    head = {name.decode(): value.decode() for name, value in reversed(sent[0]["headers"])}
    return Answer(sent[0]["status"], head, b"".join(one.get("body", b"") for one in sent[1:]))


async def post(path: str, form: dict[str, str], **headers: str) -> Answer:
    """One form."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await send("POST", path, urlencode(form).encode(), {**kind, **named})


def challenge(verifier: str = VERIFIER) -> str:
    """The S256 challenge of a verifier."""
    return _text(hashlib.sha256(verifier.encode()).digest())


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Partner:
    """An app and what it knows."""

    id: UUID
    client_id: str
    manifest: Manifest
    secret: str | None = None
    key: ECKey | None = None
    proof_key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))

    def auth(self, **claims: Any) -> tuple[dict[str, str], dict[str, str]]:
        """(form fields, headers) by which it is known."""
        method = self.manifest.auth_method
        if method is AuthMethod.SECRET:
            pair = b64encode(f"{self.client_id}:{self.secret}".encode()).decode()
            return {}, {"authorization": f"Basic {pair}"}
        if method is AuthMethod.KEY:
            text = self.assertion(**claims)
            return {"client_assertion_type": ASSERTION, "client_assertion": text}, {}
        return {"client_id": self.client_id}, {}

    def assertion(self, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A client assertion; `claims` change it."""
        assert self.key is not None
        now = int(clock.now().timestamp())
        told = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": settings().public_url,
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + 60,
            **claims,
        }
        told = {name: value for name, value in told.items() if value is not None}
        head = {"alg": "ES256", "kid": "k1", **(header or {})}
        return jwt.encode(head, told, self.key, algorithms=["ES256"])

    def proof(
        self, method: str, path: str, *, token: str | None = None, header: Any = None, **claims: Any
    ) -> str:
        """A DPoP proof; `claims` change it."""
        told = {
            "htm": method,
            "htu": settings().public_url + path,
            "iat": int(clock.now().timestamp()),
            "jti": secrets.token_hex(8),
            "nonce": partners.nonces(clock.now())[0],
            **({"ath": _text(hashlib.sha256(token.encode()).digest())} if token else {}),
            **claims,
        }
        told = {name: value for name, value in told.items() if value is not None}
        jwk = self.proof_key.as_dict(private=False)
        head = {"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk, **(header or {})}
        return jwt.encode(head, told, self.proof_key, algorithms=["ES256"])

    async def call(self, path: str, form: dict[str, str], *, dpop: bool | None = None) -> Answer:
        """An authenticated call; with a proof when the app is bound, or `dpop` says so."""
        fields, headers = self.auth()
        if self.manifest.dpop_bound if dpop is None else dpop:
            headers["dpop"] = self.proof("POST", path)
        return await post(path, {**fields, **form}, **headers)

    async def token(self, *, dpop: bool | None = None, **form: Any) -> Answer:
        """The token endpoint."""
        return await self.call("/oauth/token", form, dpop=dpop)

    async def of_code(self, code: str, *, dpop: bool | None = None, **form: Any) -> Answer:
        """Exchange a code."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": VERIFIER,
            "redirect_uri": self.manifest.redirect_uris[0],
            **form,
        }
        return await self.token(dpop=dpop, **given)

    def asking(self, **form: str | None) -> dict[str, str]:
        """An authorization request; None leaves a parameter out."""
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.manifest.redirect_uris[0],
            "code_challenge": challenge(),
            "code_challenge_method": "S256",
            "state": "s1",
            **form,
        }
        return {name: value for name, value in given.items() if value is not None}

    async def pushed(self, **form: str | None) -> dict[str, str]:
        """A request pushed ahead: what the browser then carries."""
        answer = await self.call("/oauth/par", self.asking(**form))
        assert answer.status == 201, answer.body
        return {"client_id": self.client_id, "request_uri": answer.json["request_uri"]}


@dataclass
class Browser:
    """A person: signs in when asked, and says yes or no."""

    email: str
    account_id: UUID
    merchant_id: UUID
    cookie: str | None = None
    language: str = "en"

    def _headers(self) -> dict[str, str]:
        found = {"accept-language": self.language}
        if self.cookie is not None:
            found["cookie"] = f"kami_session={self.cookie}"
        return found

    async def get(self, path: str) -> Answer:
        """Open a page, follow nothing."""
        return await send("GET", path, headers=self._headers())

    async def submit(self, page: Answer, *, origin: str | None = None, **form: str) -> Answer:
        """Send a page's form with what a person entered."""
        action = unescape(_one(r'<form method="post" action="([^"]*)"', page.text))
        hidden = r'<input type="hidden" name="([^"]*)" value="([^"]*)">'
        fields = {unescape(name): unescape(value) for name, value in re.findall(hidden, page.text)}
        headers = {**self._headers(), "origin": origin or settings().public_url}
        answer = await post(action, {**fields, **form}, **headers)
        cookie = re.match(r"kami_session=([^;]+)", answer.headers.get("set-cookie", ""))
        if cookie:
            self.cookie = cookie[1]
        return answer

    async def open(self, given: dict[str, str]) -> Answer:
        """From the app's link to the page that asks, signing in on the way."""
        answer = await self.get(f"/oauth/authorize?{urlencode(given)}")
        if answer.status != 303 or not answer.headers["location"].startswith("/oauth/"):
            return answer
        return await self.arrive(answer.headers["location"])

    async def arrive(self, path: str) -> Answer:
        """A page of ours, signing in when it asks."""
        page = await self.get(path)
        if 'name="password"' in page.text:
            led = await self.submit(page, email=self.email, password=PASSWORD)
            assert led.status == 303, led.text
            page = await self.get(led.headers["location"])
        return page

    async def allow(self, given: dict[str, str], word: str = "yes") -> Answer:
        """All the way: the redirect back to the app."""
        page = await self.open(given)
        assert page.status == 200, page.text
        return await self.submit(page, word=word, merchant=ids.encode("mer", self.merchant_id))

    async def code(self, given: dict[str, str]) -> str:
        """A code."""
        back = await self.allow(given)
        assert back.status == 303, back.text
        return back.query["code"]


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


async def person(of: make.Shop, role: Role = Role.OWNER) -> Browser:
    """A member of the shop's merchant with a browser."""
    email = f"{ids.uuid7().hex}@shop.test"
    account = await identity.register(email, PASSWORD)
    await identity.grant(of.merchant_id, account, role)
    return Browser(email, account, of.merchant_id)


PUBLIC = Manifest(name="Till", redirect_uris=(CALLBACK,), scopes=("catalogue:read", "orders:read"))
SECRET = replace(PUBLIC, name="Report", auth_method=AuthMethod.SECRET, grant_types=ALL_GRANTS)
FAPI = replace(
    PUBLIC,
    name="Books",
    auth_method=AuthMethod.KEY,
    grant_types=ALL_GRANTS,
    scopes=tuple(str(one) for one in Scope),
    requires_par=True,
    dpop_bound=True,
)


async def registered(by: Browser, manifest: Manifest) -> Partner:
    """An app of the person's merchant."""
    key = None
    if manifest.auth_method is AuthMethod.KEY:
        key = ECKey.generate_key("P-256")
        jwks = {"keys": [{**key.as_dict(private=False), "kid": "k1"}]}
        manifest = replace(manifest, jwks=jwks)
    app_id, secret = await partners.register(
        by.merchant_id, manifest, account_id=by.account_id, actor=Actor("merchant", "acc_test")
    )
    return Partner(app_id, ids.encode("app", app_id), manifest, secret, key)


async def graphql(
    query: str,
    token: str,
    *,
    scheme: str = "Bearer",
    proof: str | None = None,
    variables: Any = None,
) -> Answer:
    """A GraphQL request with an app's token."""
    headers = {"content-type": "application/json", "authorization": f"{scheme} {token}"}
    if proof is not None:
        headers["dpop"] = proof
    body = orjson.dumps({"query": query, "variables": variables or {}})
    return await send("POST", "/graphql", body, headers)
