"""The sandbox provider as a web application: signed API, hosted page, test switches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from domain.core.settings import Settings, settings
from server.sandbox import challenge, outcomes, page, statements, wire
from server.sandbox.accounts import Accounts
from server.sandbox.book import Book, Payment
from server.sandbox.callbacks import RETRY_S, Courier
from server.sandbox.outcomes import Outcome, outcome
from server.sandbox.payments import Payments
from server.sandbox.refunds import Refunds
from server.sandbox.wire import Caller, Refusal

BODY_MAX = 64 * 1024
EARLY_WAIT_S = 2.0

Answer = tuple[int, dict[str, object]]
Endpoint = Callable[["Sandbox", Caller, Request, dict[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True)
class SandboxConfig:
    """How one provider runs: `url` is where buyers reach its pages, `now` gives Unix seconds."""

    data_dir: Path
    secret: bytes = field(repr=False)
    url: str
    autoconfirm_ms: int = 0
    hang_s: float = 60.0
    retry_s: tuple[float, ...] = RETRY_S
    now: Callable[[], float] = time.time

    @classmethod
    def of(cls, chosen: Settings) -> SandboxConfig:
        """The configuration that the settings describe. Errors: SettingsWrong without a secret."""
        return cls(
            data_dir=chosen.data_dir,
            secret=chosen.secret("sandbox_secret"),
            url=(chosen.sandbox_url or "").rstrip("/"),
            autoconfirm_ms=chosen.sandbox_autoconfirm_ms or 0,
        )


class Sandbox:
    """The provider's parts, alive between start and stop of the application."""

    accounts: Accounts
    book: Book
    courier: Courier
    payments: Payments
    refunds: Refunds

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.keys = wire.Keys(config.secret)

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Open the book, arm what is due, and stop in the opposite order."""
        config = self.config
        self.book = Book(config.data_dir / "sandbox.db")
        self.accounts = Accounts(self.book, self.keys)
        self.courier = Courier(self.book, self.keys, config.now, config.retry_s)
        self.payments = Payments(self.book, self.courier, config.now, config.autoconfirm_ms)
        self.refunds = Refunds(self.book, self.courier, config.now)
        for callback, next_at in self.book.owed():
            self.courier.send(callback, max(0.0, next_at - config.now()))
        try:
            yield
        finally:
            self.payments.close()
            await self.courier.close()
            self.book.close()


def create_app(config: SandboxConfig | None = None) -> Starlette:
    """The provider as an ASGI application; without `config` it reads the settings."""
    sandbox = Sandbox(config or SandboxConfig.of(settings()))

    def api(path: str, method: str, endpoint: Endpoint) -> Route:
        async def answer(request: Request) -> Response:
            return await _answer(sandbox, request, endpoint)

        return Route(path, answer, methods=[method], name=f"{method} {path}")

    async def show(request: Request) -> Response:
        payment = sandbox.payments.page(request.path_params["payment_id"])
        if payment is not None and challenge.waits(payment):
            return RedirectResponse(f"/challenge/{payment.payment_id}", 303, page.headers(payment))
        return HTMLResponse(
            page.render(payment), 404 if payment is None else 200, page.headers(payment)
        )

    async def click(request: Request) -> Response:
        return _click(sandbox, request)

    async def ask(request: Request) -> Response:
        return _ask(sandbox, request)

    async def hear(request: Request) -> Response:
        return await _hear(sandbox, request)

    async def healthy(request: Request) -> Response:
        return Response(b"ok", media_type="text/plain")

    app = Starlette(
        routes=[
            api("/v1/payments", "POST", _create),
            api("/v1/payments/{reference}", "GET", _query),
            api("/v1/payments/{reference}/void", "POST", _void),
            api("/v1/methods/forget", "POST", _forget),
            api("/v1/refunds", "POST", _refund),
            api("/v1/refunds/{reference}", "GET", _query_refund),
            api("/v1/account", "GET", _account),
            api("/v1/accounts", "POST", _open_account),
            api("/v1/account/secret", "POST", _renew_secret),
            Route("/pay/{payment_id}", show, methods=["GET"]),
            Route("/pay/{payment_id}/{choice}", click, methods=["POST"]),
            Route("/challenge/{payment_id}", ask, methods=["GET"]),
            Route("/challenge/{payment_id}/{choice}", hear, methods=["POST"]),
            api("/v1/test/modes", "PUT", _test_modes),
            api("/v1/test/payments/{reference}", "POST", _test_payment),
            api("/v1/test/refunds/{reference}", "POST", _test_refund),
            Route("/healthz", healthy),
        ],
        lifespan=sandbox.running,
        max_body_size=BODY_MAX,
    )
    app.state.sandbox = sandbox
    return app


async def _answer(sandbox: Sandbox, request: Request, endpoint: Endpoint) -> Response:
    """Prove who asks, answer, and sign the answer for that very request."""
    raw = await request.body()
    path = request.scope["raw_path"].decode("latin-1")
    try:
        caller = sandbox.accounts.prove(
            request.headers, request.method, path, raw, sandbox.config.now()
        )
    except Refusal as refusal:  # unsigned: who asks is not known
        return Response(refusal.body(), refusal.status, media_type="application/json")
    try:
        status, said = await endpoint(sandbox, caller, request, wire.fields(raw) if raw else {})
        body = orjson.dumps(said)
    except Refusal as refusal:
        status, body = refusal.status, refusal.body()
    headers = wire.answer_headers(sandbox.keys, caller, status, body)
    fault = sandbox.payments.modes(caller.account).fault
    if fault and endpoint is not _test_modes:
        return await _spoil(sandbox, request, fault, status, headers, body)
    return Response(body, status, headers, media_type="application/json")


async def _create(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    payment, is_new = sandbox.payments.create(caller.account, asked)
    what = outcome(payment.amount_minor)
    if is_new and what is Outcome.HANG:
        is_silent = not sandbox.payments.modes(caller.account).hang_callback
        sandbox.payments.capture(payment, is_silent=is_silent)
        await _hang(sandbox, request)
        return 200, statements.payment(
            sandbox.payments.find(caller.account, payment.reference), sandbox.config.url
        )
    by_token = sandbox.payments.modes(caller.account).by_token
    is_by_token = is_new and payment.token and not payment.must_authenticate
    if is_by_token and what is not Outcome.EARLY and by_token == "captured":
        sandbox.payments.confirm(payment)
    said = statements.payment(payment, sandbox.config.url)
    if is_new and what is Outcome.EARLY:
        # The answer was written before the money moved, as it often is: it still says "created".
        sandbox.payments.capture(payment)
        await sandbox.courier.acknowledged(payment.event_id, EARLY_WAIT_S)
    return 201 if is_new else 200, said


async def _query(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    return 200, statements.payment(_payment(sandbox, caller, request), sandbox.config.url)


async def _void(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    reference = wire.text(request.path_params, "reference", wire.NAME.fullmatch)
    payment = sandbox.payments.void(caller.account, reference)
    return 200, statements.payment(payment, sandbox.config.url)


async def _forget(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    sandbox.payments.forget(caller.account, wire.text(asked, "token", wire.NAME.fullmatch))
    return 200, {"account": caller.account, "forgotten": True}


async def _refund(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    mode = sandbox.payments.modes(caller.account).refunds
    refund, is_new = sandbox.refunds.create(caller.account, asked, mode)
    if is_new and mode == "hang":
        await _hang(sandbox, request)
    return 201 if is_new else 200, statements.refund(refund)


async def _query_refund(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    refund = sandbox.refunds.find(caller.account, request.path_params["reference"])
    return 200, statements.refund(refund)


async def _account(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    return 200, {"account": caller.account}


async def _open_account(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    account = wire.text(asked, "account", wire.NAME.fullmatch)
    return 201, {"account": account, "secret": sandbox.accounts.open(caller, account)}


async def _renew_secret(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    return 200, {"account": caller.account, "secret": sandbox.accounts.renew(caller)}


async def _test_modes(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    chosen = outcomes.modes(asked)
    sandbox.payments.set_modes(caller.account, chosen)
    return 200, asdict(chosen)


async def _test_payment(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    payment, payments = _payment(sandbox, caller, request), sandbox.payments
    match asked.get("do"):
        case "confirm":
            payments.confirm(payment)
        case "decline":
            payments.decline(payment, "buyer_declined", "The buyer said no")
        case "capture":
            payments.capture(payment)
        case "late":
            payments.late(payment)
        case "repeat":
            payments.repeat(payment)
        case _:
            raise Refusal(400, "invalid_request", "do: confirm decline capture late repeat")
    return 200, statements.payment(payment, sandbox.config.url)


async def _test_refund(
    sandbox: Sandbox, caller: Caller, request: Request, asked: dict[str, Any]
) -> Answer:
    refund = sandbox.refunds.find(caller.account, request.path_params["reference"])
    if asked.get("do") not in ("succeed", "fail"):
        raise Refusal(400, "invalid_request", "do: succeed fail")
    sandbox.refunds.settle(refund, is_good=asked["do"] == "succeed")
    return 200, statements.refund(refund)


def _payment(sandbox: Sandbox, caller: Caller, request: Request) -> Payment:
    return sandbox.payments.find(caller.account, request.path_params["reference"])


def _click(sandbox: Sandbox, request: Request) -> Response:
    """A button of the hosted page; the buyer goes back to the shop, which learns it by callback."""
    payment = sandbox.payments.page(request.path_params["payment_id"])
    choice = request.path_params["choice"]
    if payment is None or choice not in ("pay", "decline"):
        return HTMLResponse(page.render(None), 404, page.headers(None))
    headers = page.headers(payment)
    if challenge.waits(payment):
        return RedirectResponse(f"/pay/{payment.payment_id}", 303, headers)
    if payment.status != "created":
        # Who wants to pay what the timer has paid already is done; everyone else is told what stands.
        is_done = choice == "pay" and payment.status in ("captured", "processing")
        after = payment.return_url if is_done else f"/pay/{payment.payment_id}"
        return RedirectResponse(after, 303, headers)
    if choice == "pay":
        sandbox.payments.confirm(payment)
    else:
        sandbox.payments.decline(payment, "buyer_declined", "The buyer said no")
    return RedirectResponse(payment.return_url, 303, headers)


def _ask(sandbox: Sandbox, request: Request) -> Response:
    """The page on which the payer proves who they are; without a question the payment's own."""
    payment = sandbox.payments.page(request.path_params["payment_id"])
    if payment is None or not challenge.waits(payment):
        return RedirectResponse(
            f"/pay/{request.path_params['payment_id']}", 303, page.headers(None)
        )
    return HTMLResponse(page.ask(payment), 200, page.headers(payment))


async def _hear(sandbox: Sandbox, request: Request) -> Response:
    """The payer's answer to the challenge; a wrong code asks again, everything else goes back to the shop."""
    body, choice = await request.body(), request.path_params["choice"]
    payment = sandbox.payments.page(request.path_params["payment_id"])
    if payment is None or choice not in ("confirm", "refuse"):
        return HTMLResponse(page.render(None), 404, page.headers(None))
    headers = page.headers(payment)
    if challenge.waits(payment):
        if choice == "refuse":
            sandbox.payments.decline(payment, *challenge.REFUSED)
        elif not sandbox.payments.authenticate(payment, challenge.typed(body)):
            return RedirectResponse(f"/challenge/{payment.payment_id}", 303, headers)
        return RedirectResponse(payment.return_url, 303, headers)
    return RedirectResponse(f"/pay/{payment.payment_id}", 303, headers)


async def _hang(sandbox: Sandbox, request: Request) -> None:
    """Say nothing until the caller has given up or `hang_s` is over."""
    try:
        async with asyncio.timeout(sandbox.config.hang_s):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return


async def _spoil(
    sandbox: Sandbox,
    request: Request,
    fault: str,
    status: int,
    headers: dict[str, str],
    body: bytes,
) -> Response:
    """What a bad day of a gateway looks like; the work behind the answer was done all the same."""
    if fault == "hang":
        await _hang(sandbox, request)
    match fault:
        case "500":
            return Response(b"Internal Server Error", 500, media_type="text/plain")
        case "html":
            return HTMLResponse("<html><body>Scheduled maintenance</body></html>", 200)
        case "cut":
            return Response(body[: len(body) // 2], status, headers, "application/json")
        case "latin1":
            return Response(b'{"message":"\xe9"}', status, headers, "application/json")
        case "unsigned":
            return Response(body, status, media_type="application/json")
    return Response(body, status, headers, "application/json")
