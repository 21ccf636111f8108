"""`python -m tests.fuzz --minutes 10 [--role owner] [--seed 7]`: the contract at random, longer than the suite does.

Without a role: tests/fuzz/test_contract.py, every caller in turn. With roles (or `all`): tests/fuzz/test_roles.py as
each of them for that long, one after the other, and a table of what came back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROLES = [
    *(
        "anonymous",
        "buyer",
        "buyer_account",
        "owner",
        "catalogue",
        "support",
        "finance",
        "developer",
    ),
    *("read_only", "other_owner", "operator_risk", "operator_finance", "operator_support"),
    *("operator_admin", "app"),
]


def main() -> int:
    """Run the tests of this folder; the exit code is pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    parser.add_argument("--role", nargs="*", default=[], choices=[*ROLES, "all"])
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.minutes} minutes", flush=True)
    about = {"FUZZ_SEED": str(asked.seed), "FUZZ_MINUTES": str(asked.minutes)}
    if not asked.role:
        return _pytest("test_contract.py", about)
    roles = ROLES if "all" in asked.role else asked.role
    return max(_as_role(role, about) for role in roles)


def _as_role(role: str, about: dict[str, str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        more = {**about, "FUZZ_ROLE": role, "FUZZ_REPORT": str(report)}
        code = _pytest("test_roles.py", more, "-k", "for_long")
        parts = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    print(_line(role, parts), flush=True)
    return code


def _line(role: str, parts: list[dict[str, Any]]) -> str:
    codes: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    findings: set[str] = set()
    for part in parts:
        codes.update(part["codes"])
        reached.update({name: count for name, count in part["reached"].items() if count})
        findings.update(part["findings"])
    return json.dumps(
        {
            "role": role,
            "sent": sum(part["sent"] for part in parts),
            "answered": sum(part["answered"] for part in parts),
            "reached": len(reached),
            "findings": sorted(findings),
            "codes": dict(codes.most_common()),
            "fields": dict(sorted(reached.items())),
        }
    )


def _pytest(name: str, about: dict[str, str], *more: str) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "--timeout=0", str(HERE / name), *more]
    return subprocess.run(command, env={**os.environ, **about}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
