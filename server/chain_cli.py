"""`kami audit` and `kami ledger`: check a hash chain, and print its head to keep elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from domain.core.hash_chain import Chain, Head

T = TypeVar("T")
Known = Annotated[
    str | None, typer.Option(help="A head that `head` printed earlier, or a file with it.")
]

audit = typer.Typer(help="The audit log and its hash chain.", no_args_is_help=True)
ledger = typer.Typer(help="The books, their laws and their hash chain.", no_args_is_help=True)


@audit.command("head")
def audit_head() -> None:
    """Print the end of the chain as `number:hash`. Keep it outside the database: it shows a cut tail."""
    from domain.core.audit_chain import CHAIN

    _print_head(CHAIN)


@audit.command("verify")
def audit_verify(head: Known = None) -> None:
    """Recompute the whole chain and name the first bad row. Exit code 1 when something does not fit."""
    from domain.core.audit_chain import CHAIN

    _verify(CHAIN, head)


@ledger.command("head")
def ledger_head() -> None:
    """Print the end of the chain as `number:hash`. Keep it outside the database: it shows a cut tail."""
    from domain import ledger as books

    _print_head(books.chain())


@ledger.command("verify")
def ledger_verify(head: Known = None) -> None:
    """Check every law of the books, then recompute the chain of journals. Exit code 1 when something does not fit."""
    from domain import ledger as books

    faults = _ask(books.check)
    for fault in faults:
        typer.secho(fault, fg="red", err=True)
    if faults:
        raise typer.Exit(1)
    _verify(books.chain(), head)


def _print_head(chain: Chain[Any]) -> None:
    found = _ask(chain.head)
    if found is None:
        typer.echo("nothing is sealed yet", err=True)
        raise typer.Exit(1)
    typer.echo(str(found))


def _verify(chain: Chain[Any], head: str | None) -> None:
    known = _known(head)

    async def look() -> tuple[Any, Head | None, int]:
        return await chain.verify(known=known), await chain.head(), await chain.unsealed()

    broken, end, waiting = _ask(look)
    if broken is not None:
        subject = "" if broken.subject is None else f", {chain.noun} {broken.subject}"
        typer.secho(f"broken at {broken.seq}{subject}: {broken.reason}", fg="red", err=True)
        raise typer.Exit(1)
    typer.echo(f"{end.seq if end else 0} {chain.noun}s fit, {waiting} wait to be sealed")
    if end is not None:
        typer.echo(f"head {end}")


def _known(head: str | None) -> Head | None:
    from domain.core.hash_chain import Head

    if head is None:
        return None
    found = Head.read(Path(head).read_text("utf-8") if Path(head).is_file() else head)
    if found is None:
        typer.secho(f"{head} is no head: it looks like 1234:<64 hex digits>", fg="red", err=True)
        raise typer.Exit(2)
    return found


def _ask(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` on the database of this installation."""
    import asyncio

    from domain.core import db
    from server import cli

    url = cli.attached().database_url
    assert url is not None

    async def run() -> T:
        await db.open(url, minsize=1, maxsize=1)
        try:
            return await work()
        finally:
            await db.close()

    return asyncio.run(run())
