"""Run benchmarks one after another, each in a process of its own: `python -m bench [name…]`, all without a name."""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "fulfil",
    "ledger_set",
    "purchase",
    "reads",
    "auth",
    "live",
    "imports",
    "start",
    "growth",
    "sandbox",
    "webhooks",
)


def main(names: list[str]) -> int:
    """The number of benchmarks that failed to run; a missed goal is a result, no failure."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(ALL)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or ALL:
        print(f"\n── {name} " + "─" * (70 - len(name)), flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"did not run to the end: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
