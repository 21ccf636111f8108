"""`bin/setup` and the Makefile: what a fresh machine meets first."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from domain.core.settings import ROOT

LOCKS = ("base", "dev", "uv")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, with a Python that is too old."""
    made = tmp_path / "my kami"
    shutil.copytree(ROOT / "bin", made / "bin")
    (made / "requirements").mkdir()
    for name in LOCKS:
        shutil.copy(ROOT / "requirements" / f"{name}.lock", made / "requirements")
    shutil.copy(ROOT / "Makefile", made)
    (tmp_path / "old").mkdir()
    for name in ("python3", "python"):
        old = tmp_path / "old" / name
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    for name in ("cat", "cksum", "dirname", "sh", "rm", "mkdir", "ln", "readlink", "env"):
        found = shutil.which(name)
        assert found is not None, name
        (tmp_path / "old" / name).symlink_to(found)
    return made


def run(*command: str, checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=checkout,
        env={"PATH": str(checkout.parent / "old"), "HOME": str(checkout.parent), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_machine_with_an_old_python_is_told_what_it_needs(checkout: Path) -> None:
    done = run("/bin/sh", "bin/setup", "base", checkout=checkout)

    assert done.returncode == 1
    assert "Kami needs Python 3.11 or newer" in done.stderr
    assert "make run PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_kami_before_the_installation_says_what_to_do(checkout: Path) -> None:
    done = run("/bin/sh", "bin/kami", "doctor", checkout=checkout)

    assert done.returncode == 1
    assert "make run" in done.stderr


def test_nothing_is_done_when_nothing_has_changed(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    summed = subprocess.run(
        "cat requirements/base.lock requirements/dev.lock | cksum",
        shell=True,
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (checkout / ".venv" / "kami-installed").write_text(f"dev {summed}\n")

    # What was installed for the tests is enough to run; neither fetches anything.
    for wanted in ("base", "dev"):
        done = run("/bin/sh", "bin/setup", wanted, checkout=checkout)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("settings", "environment", "seen"),
    [
        ({"cert": "/company.pem", "index-url": "https://mirror/simple"}, {},
         "https://mirror/simple /company.pem"),
        ({}, {"PIP_INDEX_URL": "https://named/", "PIP_CERT": "/named.pem"}, "https://named/ /named.pem"),
        ({"cert": "/company.pem", "index-url": "https://mirror/simple"},
         {"UV_DEFAULT_INDEX": "https://uv/", "SSL_CERT_FILE": "/uv.pem"}, "https://uv/ /uv.pem"),
    ],
)  # fmt: skip
def test_the_installer_follows_the_mirror_and_certificates_pip_is_set_up_with(
    checkout: Path, settings: dict[str, str], environment: dict[str, str], seen: str
) -> None:
    answers = "".join(f"  *' global.{name}') echo {value} ;;\n" for name, value in settings.items())
    for path, script in {
        ".venv/bin/python": "exit 0",
        ".venv/uv/bin/python": f'case " $*" in\n{answers}  *) exit 1 ;;\nesac',
        ".venv/uv/bin/uv": 'echo "$UV_DEFAULT_INDEX $SSL_CERT_FILE" >> "$HOME/seen"',
    }.items():
        made = checkout / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(f"#!/bin/sh\n{script}\n")
        made.chmod(0o755)

    done = run("/bin/sh", "bin/setup", "base", checkout=checkout, **environment)

    assert (done.returncode, done.stderr) == (0, "")
    assert (checkout.parent / "seen").read_text().splitlines()[-1] == seen


def test_scripts_can_be_run_and_ci_does_what_make_test_does() -> None:
    for name in ("bin/setup", "bin/kami", "bin/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
        assert (ROOT / name).read_text("utf-8").startswith("#!/bin/sh\n"), name
    assert "exec make test" in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_port_is_handed_to_the_platform() -> None:
    done = subprocess.run(
        ["make", "-n", "run", "PORT=9000"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert 'KAMI_PORT="9000" bin/kami up' in done.stdout
