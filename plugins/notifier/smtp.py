"""Mail by SMTP: one connection per batch, one answer per mail, never an exception for the
network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from domain.core import clock
from domain.core.settings import SettingsWrong
from domain.notifications.ports import Answer, Mail, Outcome
from plugins.notifier import mime

TIMEOUT_S = 15.0
BATCH_S = 90.0  # well below the lease of the batch
CONNECTIONS_MAX = 5  # some servers hang up after a few mails

_START_TLS = {"required": True, "optional": None, "off": False}


@dataclass(frozen=True, slots=True, repr=False)
class Smtp:
    """An SMTP server. `start_tls` True demands it, None takes it when offered."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    use_tls: bool = False
    start_tls: bool | None = None
    timeout_s: float = TIMEOUT_S
    name: str = "smtp"

    def __repr__(self) -> str:
        return f"Smtp({self.host}:{self.port})"

    async def send(self, mails: Sequence[Mail]) -> list[Answer]:
        """Hand the mails over one after the other; what is not taken in time comes later."""
        answers: list[Answer] = []
        client: SMTP | None = None
        connections = 0
        until = clock.monotonic() + BATCH_S
        try:
            for mail in mails:
                if clock.monotonic() >= until:
                    break
                try:
                    if client is None:
                        if connections == CONNECTIONS_MAX:
                            break
                        connections += 1
                        client = await self._connect()
                    answers.append(await _hand_over(client, mail))
                except (SMTPException, OSError, TimeoutError, ValueError) as error:
                    # Taken or not, nobody knows: the next try carries the same Message-ID.
                    answers.append(Answer(Outcome.LATER, _reason(error)))
                    lost, client = client, None
                    if lost is None:  # there is no server to talk to
                        break
                    lost.close()
        finally:
            if client is not None:
                await _hang_up(client)
        reason = answers[-1].reason if answers else "no time left"
        return answers + [Answer(Outcome.LATER, reason or "no time left")] * (
            len(mails) - len(answers)
        )

    async def _connect(self) -> SMTP:
        client = SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.use_tls,
            start_tls=self.start_tls,
            timeout=self.timeout_s,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client


async def _hand_over(client: SMTP, mail: Mail) -> Answer:
    """Give one mail to the server. Errors: the connection's, when it cannot be used any more."""
    try:
        await client.sendmail(mime.address(mail.sender), [mail.recipient], mime.compose(mail))
    except SMTPRecipientsRefused as refused:
        return _answer(refused.recipients[0])
    except (SMTPSenderRefused, SMTPDataError) as refused:
        if refused.code == 421:
            raise
        return _answer(refused)
    return Answer(Outcome.SENT)


def _answer(refused: SMTPResponseException) -> Answer:
    outcome = Outcome.REFUSED if 500 <= refused.code < 600 else Outcome.LATER
    return Answer(outcome, _reason(refused))


def _reason(error: Exception) -> str:
    """The code and kind of a failure; the server's words may repeat the address and stay out."""
    code = f" {error.code}" if isinstance(error, SMTPResponseException) else ""
    return f"{type(error).__name__}{code}"


async def _hang_up(client: SMTP) -> None:
    try:
        await client.quit()
    except (SMTPException, OSError, TimeoutError, SMTPServerDisconnected):
        client.close()


def parse(url: str) -> Smtp:
    """The server of KAMI_SMTP_URL.

    `smtp://user:password@host:587` (STARTTLS demanded with a password, taken when offered without;
    `?tls=required`, `optional` or `off` says otherwise) or `smtps://…:465`. Errors: SettingsWrong.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    tls = parse_qs(parts.query).get("tls", ["required" if parts.password else "optional"])[0]
    if (
        parts.scheme not in ("smtp", "smtps")
        or not parts.hostname
        or port == 0
        or tls not in _START_TLS
    ):
        raise SettingsWrong(
            ["KAMI_SMTP_URL must look like smtp://user:password@host:587 or smtps://…:465"]
        )
    is_tls = parts.scheme == "smtps"
    return Smtp(
        host=parts.hostname,
        port=port or (465 if is_tls else 587),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        use_tls=is_tls,
        start_tls=False if is_tls else _START_TLS[tls],
    )
