"""`python -m tests.fuzz --minutes 10 [--seed 7]`: the contract asked at random for longer than the suite does."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the test of this folder; the exit code is pytest's."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {asked.minutes} minutes", flush=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n0",
        str(Path(__file__).with_name("test_contract.py")),
    ]
    more = {"FUZZ_SEED": str(asked.seed), "FUZZ_MINUTES": str(asked.minutes)}
    return subprocess.run(command, env={**os.environ, **more}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
