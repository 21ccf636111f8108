"""The development mailbox: every mail is a file in a folder, the oldest make room for the
newest."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from domain.notifications.ports import Answer, Mail, Outcome
from plugins.notifier import mime

KEPT_MAX = 500
_SUFFIX = ".eml"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Writes `.eml` files, readable by their owner only: the links inside open orders."""

    folder: Path
    kept_max: int = KEPT_MAX
    name: str = "mailbox"

    async def send(self, mails: Sequence[Mail]) -> list[Answer]:
        """Write the mails; a mail written twice is one file."""
        if not mails:
            return []
        return await asyncio.to_thread(self._write_all, mails)

    def _write_all(self, mails: Sequence[Mail]) -> list[Answer]:
        answers = []
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for mail in mails:
            try:
                self._write(mail)
                answers.append(Answer(Outcome.SENT))
            except OSError as error:
                answers.append(Answer(Outcome.LATER, type(error).__name__))
        self._make_room()
        return answers

    def _write(self, mail: Mail) -> None:
        path = self.folder / f"{mail.name}{_SUFFIX}"
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "wb") as file:
            file.write(mime.compose(mail))
        draft.replace(path)  # a reader never sees half a mail

    def _make_room(self) -> None:
        names = sorted(
            entry.name for entry in os.scandir(self.folder) if entry.name.endswith(_SUFFIX)
        )
        for name in names[: -self.kept_max]:
            (self.folder / name).unlink(missing_ok=True)
