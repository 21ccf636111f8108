"""What `kami up` prints once everything runs: where things are, who may log in, and a first purchase to paste."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from domain.core.settings import Settings, reachable
from server import demo_logins, pages

_VARIANT = (
    '{ shop(handle: "demo") { products(first: 1) { nodes { title variants { id title } } } } }'
)
_MUTATION = """mutation {
  startCheckout(input: {
    shop: "demo"
    lines: [{ variantId: "%s", quantity: 1 }]
    contact: { email: "you@example.com" }
  }) @idempotent(key: "first-purchase-1") {
    ... on Checkout {
      accessKey
      order { id number total { amount currency } }
      paymentMethods { code name }
    }
    ... on Problem { code message }
  }
}"""


def show(settings: Settings) -> None:
    """Print it; parts that are not there (no demo shop, no GraphQL) are left out."""
    console = Console()
    url = settings.public_url
    where = Table.grid(padding=(0, 2))
    where.add_row("Demo shop", f"[bold]{url}{pages.DEMO}[/]")
    where.add_row("Accounts", f"{url}/account")
    where.add_row("GraphiQL", f"[bold]{url}/graphiql[/]")
    where.add_row("API", f"{url}/graphql")
    if settings.smtp_url is None:
        where.add_row("Mailbox", f"{url}/mailbox")
    where.add_row("Metrics", f"{url}/metrics")
    if settings.sandbox_url:
        where.add_row("Sandbox provider", settings.sandbox_url)
    for mail, password in demo_logins.read(settings.data_dir).items():
        where.add_row(f"Login {mail}", password)
    console.print()
    console.print(Panel(where, title="Kami is running", title_align="left", expand=False))
    variant = _first_variant(f"http://{reachable(settings.host)}:{settings.port}")
    if variant is not None:
        console.print(f"A first purchase, to paste into GraphiQL ({variant['title']}):\n")
        console.print(Syntax(_MUTATION % variant["id"], "graphql", background_color="default"))
        console.print()
    console.print(
        "Next: [bold]bin/kami demo buy[/] buys for real and shows every step;"
        " [bold]bin/kami doctor[/] checks the house; Ctrl-C stops it.\n"
    )


def _first_variant(url: str) -> dict[str, Any] | None:
    body = json.dumps({"query": _VARIANT}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"{url}/graphql", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            shop = json.load(answer)["data"]["shop"]
        found: dict[str, Any] = shop["products"]["nodes"][0]["variants"][0]
    except (urllib.error.URLError, OSError, ValueError, KeyError, IndexError, TypeError):
        return None
    return found
