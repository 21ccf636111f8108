"""Provider callbacks: raw bytes in, one committed inbox row, the provider's own success word out; nothing else."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain import payments
from domain.core.errors import Unavailable
from domain.payments.ports import CallbackRefused, providers

ACCOUNT_MAX = 64
_log = structlog.get_logger(__name__)


async def hear(request: Request) -> Response:
    """Prove and store one callback.

    401 for a signature that does not hold, 400 for what cannot be read, 404 for an unknown provider: nothing
    has changed then. 503 when the database is away: the provider comes again.
    """
    name, account = request.path_params["plugin"], request.path_params["account"]
    provider = providers.get(name)
    if provider is None or len(account) > ACCOUNT_MAX:
        return Response(status_code=404)
    body = await request.body()
    headers = {
        key.decode("latin-1"): value.decode("latin-1") for key, value in request.scope["headers"]
    }
    try:
        new = await payments.receive(name, account, headers, body)
    except CallbackRefused as refusal:
        status = int(refusal.facts.get("status", 401))
        _log.warning("callback.refused", provider=name, account=account, status=status)
        return Response(provider.failure_word, status_code=status, media_type="text/plain")
    except Unavailable:
        return Response(provider.failure_word, status_code=503, headers={"Retry-After": "2"})
    _log.debug("callback.stored", provider=name, account=account, new=new)
    return Response(provider.success_word, media_type="text/plain")


def routes() -> list[Route]:
    """`POST /hooks/{plugin}/{account}`."""
    return [Route("/hooks/{plugin}/{account}", hear, methods=["POST"])]
