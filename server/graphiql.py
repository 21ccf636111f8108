"""GraphiQL in development: a page and its files out of `web/graphiql`, nothing from another host."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).resolve().parents[1] / "web" / "graphiql"
_FILES = frozenset(
    {
        "graphiql.min.css",
        "graphiql.min.js",
        "icon.svg",
        "kami.css",
        "kami.js",
        "react-dom.production.min.js",
        "react.production.min.js",
    }
)
# The bundle looks for the global object with `new Function`.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'"
)


async def _page(request: Request) -> Response:
    return FileResponse(
        FOLDER / "index.html",
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"},
    )


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        return Response(status_code=404)
    return FileResponse(FOLDER / name, headers={"Cache-Control": "max-age=3600"})


def routes() -> list[BaseRoute]:
    """`/graphiql` and its files."""
    return [
        Route("/graphiql", _page, methods=["GET"]),
        Route("/graphiql/{name}", _file, methods=["GET"]),
    ]
