"""Failpoints: off by themselves, never in production, deadly as often as asked in all processes together."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from domain.core import failpoint
from domain.core.settings import ROOT

_VISITS = """
from domain.core import failpoint
for visit in range(1, 6):
    print(visit, flush=True)
    failpoint.reach("here.now")
    failpoint.reach("elsewhere")
"""


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failpoint, "_armed", None)


def visit(folder: Path, armed: str, env: str = "test") -> tuple[int, list[str]]:
    """Exit code and visits of a process that comes five times."""
    environment = {failpoint.ARMED: armed, failpoint.FOLDER: str(folder), "KAMI_ENV": env}
    done = subprocess.run(
        [sys.executable, "-c", _VISITS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_k01_a_failpoint_kills_at_the_nth_visit_and_as_often_as_asked(tmp_path: Path) -> None:
    armed = "here.now:kill9@3x2"

    assert visit(tmp_path, armed) == (-signal.SIGKILL, ["1", "2", "3"])
    assert visit(tmp_path, armed) == (-signal.SIGKILL, ["1", "2", "3"])
    assert visit(tmp_path, armed) == (0, ["1", "2", "3", "4", "5"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.now.1", "here.now.2"]


def test_unarmed_or_in_production_nobody_dies(tmp_path: Path) -> None:
    assert visit(tmp_path, "")[0] == 0
    assert visit(tmp_path, "another.place:kill9")[0] == 0
    assert visit(tmp_path, "here.now:kill9", env="production")[0] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("armed", ["here", "here:die", "here:kill9@0", "here:kill9@x", "a b:kill9"])
def test_what_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, armed: str) -> None:
    monkeypatch.setenv(failpoint.ARMED, armed)
    monkeypatch.setenv(failpoint.FOLDER, "/tmp")

    with pytest.raises(failpoint.FailpointsWrong):
        failpoint.load()


def test_a_folder_to_count_in_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoint.ARMED, "here.now:kill9")

    with pytest.raises(failpoint.FailpointsWrong):
        failpoint.reach("here.now")
