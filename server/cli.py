"""The command `kami`: run the house, one of its processes, or look after it.

Everything heavy is imported inside the command that needs it: `kami --help` answers at once and the supervisor
stays small.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server import demo_options
from server.chain_cli import audit, ledger

if TYPE_CHECKING:
    from domain.core.settings import Settings

FILES_MAX = 65_536  # thousands of sockets; the usual soft limit of 1,024 is too low

app = typer.Typer(
    name="kami",
    help="Kami: an open-finance platform for automated digital-goods shops.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they would print local variables, secrets included
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo = typer.Typer(help="Try the running platform.", no_args_is_help=True)
app.add_typer(demo, name="demo")
app.add_typer(audit, name="audit")
app.add_typer(ledger, name="ledger")


class Queue(StrEnum):
    """Which promises a worker keeps."""

    ALL = "all"
    SETTLEMENT = "settlement"
    RISK = "risk"
    DELIVERY = "delivery"
    GENERAL = "general"


Port = Annotated[int | None, typer.Option(help="TCP port; default KAMI_PORT or 8000.")]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on; default KAMI_HOST or 127.0.0.1.")
]
Fd = Annotated[
    int | None, typer.Option(hidden=True, help="A listening socket inherited from the supervisor.")
]


@app.command()
def up(
    port: Port = None,
    host: Host = None,
    api_processes: Annotated[
        int | None,
        typer.Option(
            help="API processes that share the port; default KAMI_API_PROCESSES or one per two cores."
        ),
    ] = None,
    separate_workers: Annotated[
        bool,
        typer.Option(
            "--separate-workers", help="One worker process per queue instead of one for all."
        ),
    ] = False,
    seed: Annotated[bool, typer.Option(help="Make the demo shop when it is missing.")] = True,
) -> None:
    """Run everything: database, queue server, API, workers, sandbox provider. Ctrl-C stops it all.

    PostgreSQL and Valkey come with Kami and keep their data in KAMI_DATA_DIR (.kami). With KAMI_DATABASE_URL or
    KAMI_REDIS_URL set, your own server is used instead.
    """
    _configure(
        port=port, host=host, api_processes=api_processes, workers_separate=separate_workers or None
    )
    settings = _settings()
    from server import supervisor
    from server.listen import PortTaken

    try:
        raise typer.Exit(supervisor.up(settings, seed=seed and settings.in_development))
    except (supervisor.StartFailed, PortTaken) as error:
        _refuse(str(error), code=1)


@app.command()
def serve(
    port: Port = None,
    host: Host = None,
    fd: Fd = None,
    shared: Annotated[
        bool, typer.Option(hidden=True, help="Join the port of other processes.")
    ] = False,
) -> None:
    """Run one API process: GraphQL, callbacks, pages, /healthz, /readyz, /metrics."""
    _configure(port=port, host=host)
    settings = attached()
    _start_process("api")
    from server.app import create_app
    from server.serve import serve as run

    _serve(run, create_app(), host=settings.host, port=settings.port, fd=fd, shared=shared)


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="TCP port.")] = 8001, host: Host = None, fd: Fd = None
) -> None:
    """Run the sandbox payment provider, a stand-in for a real one, on its own port."""
    _configure(host=host)
    settings = _settings()
    _start_process("sandbox")
    from server.sandbox.app import create_app
    from server.serve import serve as run

    _serve(run, create_app(), host=settings.host, port=port, fd=fd, shared=False)


@app.command()
def worker(
    queue: Annotated[Queue, typer.Argument(help="The queue to work on.")] = Queue.ALL,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve /metrics of this worker here, for a pod of its own.")
    ] = None,
) -> None:
    """Run one worker process for one queue or for all of them."""
    settings = attached()
    _start_process("worker")
    from server import child, running, telemetry
    from server.graphql import bulk, shaping
    from workers import main as workers

    if queue in (Queue.ALL, Queue.GENERAL):
        shaping.install()
        bulk.install()
    if metrics_port is not None:
        telemetry.serve_metrics(settings.host, metrics_port)
    running.wait_at_gate()
    child.tell_ready()
    queues = (
        [one.value for one in Queue if one is not Queue.ALL]
        if queue is Queue.ALL
        else [queue.value]
    )
    _run(workers.run(queues))


@app.command()
def migrate(
    seed_too: Annotated[
        bool, typer.Option("--seed", help="Make the demo shop afterwards.")
    ] = False,
) -> None:
    """Bring the database up to date. Safe to run from several places at once."""
    settings = attached()
    _start_process("migrate")
    from domain.core import migrate as migrations

    url = settings.owner_database_url or settings.database_url
    assert url is not None
    try:
        done = _run(migrations.migrate(url, as_owner=settings.owner_database_url is None))
    except OSError as error:
        from server.doctor import masked

        _refuse(f"The database {masked(url)} cannot be reached: {error}", code=1)
        raise
    except migrations.MigrationChanged as error:
        _refuse(
            f"{error} was edited after this database had applied it. Write a new migration instead;\n"
            "while trying things out, `make reset` starts from an empty data folder.",
            code=1,
        )
        raise
    for name in done.applied:
        typer.echo(f"applied {name}")
    if done.role_needs is not None:
        typer.echo(
            "The application works with the rights of the owner of the tables: this user may not make its role.\n"
            f"Let an administrator run the following, then run `kami migrate` again:\n  {done.role_needs};",
            err=True,
        )
    if seed_too:
        _run(_seed(settings))


@app.command()
def seed() -> None:
    """Make the demo shop: products, prices, card keys, logins. What exists is left alone."""
    settings = attached()
    _start_process("seed")
    if not settings.in_development:
        _refuse("The demo shop is not made in production: its logins are known.", code=1)
    _run(_seed(settings))


@app.command()
def doctor() -> None:
    """Show what is configured, what can be reached and what is wrong, each with its remedy."""
    from server import doctor as checks

    facts = _adopt()
    raise typer.Exit(_run(checks.report(adopted=frozenset(facts or ()))))


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove the data folder with everything in it: shops, orders, card keys, secrets. There is no way back."""
    from server import places, running

    data_dir = _settings().data_dir
    if running.found(data_dir) is not None:
        _refuse(running.taken_sentence(data_dir), code=1)
    if not yes:
        typer.confirm(f"Remove {data_dir} and all that is in it?", abort=True)
    places.remove(data_dir)
    typer.echo(f"removed {data_dir}")


@app.command(hidden=True)
def nursery() -> None:
    """Load the code and fork processes for the supervisor."""
    from server import nursery as forks

    forks.run()


@app.command(hidden=True)
def hello() -> None:
    """Print where things are; the supervisor calls it once everything runs."""
    from server import banner

    banner.show(_settings())


@demo.command()
def buy(
    url: Annotated[
        str | None, typer.Option(help="The platform to buy from; default the one that runs here.")
    ] = None,
    country: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--country",
            help="Look like a buyer from there, e.g. HK (development only).",
            callback=demo_options.country,
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="Pay in it, e.g. JPY.", callback=demo_options.currency)
    ] = None,
    quantity: Annotated[int, typer.Option(min=1, help="How many.")] = 1,
    product: Annotated[
        str | None, typer.Option(help="Words of its title, e.g. scarce; default the first one.")
    ] = None,
    method: Annotated[str | None, typer.Option(help="How to pay; default the sandbox.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Save the method and buy the same again with one call.")
    ] = False,
) -> None:
    """Buy something for real, over HTTP and WebSocket, and show each step, the goods and the money's way."""
    from server import demo as buyer

    _adopt()
    target = url or _settings().public_url
    wish = buyer.Wish(country, currency, quantity, product, method, again=again)
    raise typer.Exit(_run(buyer.buy(target, wish)))


def _configure(**options: Any) -> None:
    """Command-line options win over the environment, for us and for every child."""
    for name, value in options.items():
        if value is not None:
            os.environ[f"KAMI_{name.upper()}"] = str(value)


def _settings() -> Settings:
    """The settings, or the end with a sentence for each thing that is wrong."""
    from domain.core.settings import SettingsWrong, settings

    try:
        return settings()
    except SettingsWrong as error:
        _refuse("\n".join(error.problems), code=2)
        raise


def _adopt() -> dict[str, str] | None:
    """Use what the `kami up` on this data folder uses, unless the environment says otherwise; what was taken."""
    from pathlib import Path

    from domain.core.settings import ROOT
    from server import running

    facts = running.found(Path(os.environ.get("KAMI_DATA_DIR") or ROOT / ".kami").absolute())
    adopted = {}
    for name in ("database_url", "redis_url", "sandbox_url", "port", "public_url"):
        if facts is not None and f"KAMI_{name.upper()}" not in os.environ:
            adopted[name] = str(facts[name])
    _configure(**adopted)
    return adopted if facts is not None else None


def attached() -> Settings:
    """Settings of a process that needs the database and the queue server."""
    _adopt()
    settings = _settings()
    missing = [
        f"KAMI_{name.upper()}"
        for name in ("database_url", "redis_url")
        if getattr(settings, name) is None
    ]
    if missing:
        _refuse(
            f"{' and '.join(missing)} not set, and no `kami up` runs on {settings.data_dir}.\n"
            "Start it first (make run), or set them to servers of your own.",
            code=2,
        )
    return settings


def _start_process(name: str) -> None:
    """What every long-running process does first."""
    import resource

    from server import logging, telemetry

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    settings = _settings()
    logging.configure(settings)
    if name not in ("migrate", "seed"):  # what ends in a moment is not worth a series
        telemetry.configure(settings, process=os.environ.get("KAMI_PROCESS", name))


def _serve(run: Callable[..., int], application: Any, **where: Any) -> None:
    from server.listen import PortTaken

    try:
        raise typer.Exit(run(application, **where))
    except PortTaken as error:
        _refuse(str(error), code=1)


def _run(work: Any) -> Any:
    import uvloop

    return uvloop.run(work) if asyncio.iscoroutine(work) else work


async def _seed(settings: Settings) -> None:
    from domain.core import bell, db
    from server import seed as shops

    assert settings.database_url is not None
    assert settings.redis_url is not None
    await db.open(settings.database_url, minsize=1, maxsize=2)
    bell.open(settings.redis_url)
    try:
        await shops.demo()
    finally:
        await bell.close()
        await db.close()


def _refuse(text: str, *, code: int) -> None:
    typer.secho(
        "Kami does not start." if code == 2 else "Kami stops.", fg="red", bold=True, err=True
    )
    for line in text.splitlines():
        typer.echo(f"  {line}", err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry of `kami` and of `python -m server.cli`."""
    from server import processes

    processes.hold_lifeline()
    try:
        app(prog_name="kami")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
