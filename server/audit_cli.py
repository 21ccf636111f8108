"""`kami audit`: check the chain of the audit log, and print its head to keep elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")

audit = typer.Typer(help="The audit log and its hash chain.", no_args_is_help=True)


@audit.command()
def head() -> None:
    """Print the end of the chain as `number:hash`. Keep it outside the database: it shows a cut tail."""
    from domain.core import audit_chain

    found = _ask(audit_chain.head)
    if found is None:
        typer.echo("nothing is sealed yet", err=True)
        raise typer.Exit(1)
    typer.echo(str(found))


@audit.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(help="A head that `kami audit head` printed earlier, or a file with it."),
    ] = None,
) -> None:
    """Recompute the whole chain and name the first bad row. Exit code 1 when something does not fit."""
    from domain.core import audit_chain

    known = None
    if head is not None:
        is_file = Path(head).is_file()
        known = audit_chain.Head.read(Path(head).read_text("utf-8") if is_file else head)
        if known is None:
            typer.secho(
                f"{head} is no head: it looks like 1234:<64 hex digits>", fg="red", err=True
            )
            raise typer.Exit(2)

    async def look() -> tuple[audit_chain.Broken | None, audit_chain.Head | None, int]:
        broken = await audit_chain.verify(known=known)
        return broken, await audit_chain.head(), await audit_chain.unsealed()

    broken, end, waiting = _ask(look)
    if broken is not None:
        row = "" if broken.no is None else f", row {broken.no}"
        typer.secho(f"broken at {broken.seq}{row}: {broken.reason}", fg="red", err=True)
        raise typer.Exit(1)
    typer.echo(f"{end.seq if end else 0} rows fit, {waiting} wait to be sealed")
    if end is not None:
        typer.echo(f"head {end}")


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
