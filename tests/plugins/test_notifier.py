"""Mails as bytes, by SMTP and into the development mailbox."""

from __future__ import annotations

import stat
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from domain.core.settings import SettingsWrong
from domain.notifications.ports import Mail, Outcome
from plugins.notifier import mime, smtp
from plugins.notifier.mailbox import Mailbox
from plugins.notifier.smtp import Smtp, parse
from tests.plugins.smtp_server import smtp_server

MAIL = Mail(
    name="20261122T100000.000001-abc-1",
    message_id="0123abc.1@kami.test",
    sender="Kami 卡密 <no-reply@kami.test>",
    recipient="buyer@xn--bcher-kva.example",
    subject="商品をお届けしました：ご注文 K261122-7F3K9QZ2AB と長い長い長い長い長い長い長い長い件名",
    text="こんにちは\n\nhttps://kami.test/orders/ord_x#accessKey=abc\n" + "x" * 2_000 + "\n.\n",
    html="<p>こんにちは &amp; bye</p>",
    language="ja",
)


def read(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=policy.default)


def test_the_standard_library_reads_what_we_write() -> None:
    raw = mime.compose(MAIL)
    mail = read(raw)

    assert mail.defects == []
    assert (mail["Subject"], mail["To"]) == (MAIL.subject, MAIL.recipient)
    assert mail["From"].addresses[0].display_name == "Kami 卡密"
    assert mail["From"].addresses[0].addr_spec == "no-reply@kami.test"
    assert mail["Message-ID"] == f"<{MAIL.message_id}>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime is not None
    plain, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert plain.get_content() == MAIL.text
    assert page is not None
    assert page.get_content() == MAIL.html
    assert mail.get_content_type() == "multipart/alternative"


def test_every_line_is_short_ascii_and_ends_properly() -> None:
    raw = mime.compose(MAIL)

    lines = raw.split(b"\r\n")
    assert raw.isascii()
    assert raw.endswith(b"--\r\n")
    assert max(map(len, lines)) <= 78
    assert not any(b"\n" in line or b"\r" in line for line in lines)


@pytest.mark.parametrize("subject", ["Plain", "=?utf-8?q?forged?=", "a" * 200, "é", ""])
def test_any_subject_survives(subject: str) -> None:
    assert read(mime.compose(replace(MAIL, subject=subject)))["Subject"] == subject


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.test", Smtp("mail.test", 587)),
        ("smtp://127.0.0.1:2525?tls=off", Smtp("127.0.0.1", 2525, start_tls=False)),
        ("smtp://a%40b:p%2Fw@mail.test:25", Smtp("mail.test", 25, "a@b", "p/w", start_tls=True)),
        ("smtps://u:p@mail.test", Smtp("mail.test", 465, "u", "p", use_tls=True, start_tls=False)),
    ],
)
def test_a_url_names_a_server(url: str, expected: Smtp) -> None:
    assert parse(url) == expected
    assert "p/w" not in repr(expected)


@pytest.mark.parametrize(
    "url", ["", "http://mail.test", "smtp://", "smtp://a:99999", "smtp://a?tls=maybe"]
)
def test_a_url_that_names_none_is_refused(url: str) -> None:
    with pytest.raises(SettingsWrong) as refused:
        parse(url)

    assert "KAMI_SMTP_URL" in str(refused.value)


async def test_mails_go_over_one_connection() -> None:
    async with smtp_server() as server:
        answers = await Smtp("127.0.0.1", server.port).send(
            [MAIL, replace(MAIL, recipient="b@b.test")]
        )

    assert [answer.outcome for answer in answers] == [Outcome.SENT, Outcome.SENT]
    assert server.connections == 1
    assert [(sender, to) for sender, to, _ in server.mails] == [
        ("no-reply@kami.test", [MAIL.recipient]),
        ("no-reply@kami.test", ["b@b.test"]),
    ]
    body = read(server.mails[0][2]).get_body(("plain",))
    assert body is not None
    assert body.get_content() == MAIL.text


async def test_each_mail_gets_its_own_answer() -> None:
    mails = [replace(MAIL, recipient=f"{who}@b.test") for who in ("gone", "full", "fine")]
    replies = {
        "RCPT TO:<gone@": "550 5.1.1 no such user",
        "RCPT TO:<full@": "452 4.2.2 mailbox full",
    }
    async with smtp_server(replies=replies) as server:
        answers = await Smtp("127.0.0.1", server.port).send(mails)

    assert [answer.outcome for answer in answers] == [Outcome.REFUSED, Outcome.LATER, Outcome.SENT]
    assert "550" in answers[0].reason
    assert not any("b.test" in answer.reason for answer in answers)
    assert [to for _, to, _ in server.mails] == [["fine@b.test"]]


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        ({"MAIL FROM": "553 who are you"}, Outcome.REFUSED),
        ({"MAIL FROM": "421 too many"}, Outcome.LATER),
        ({"END": "554 spam"}, Outcome.REFUSED),
        ({"END": "451 greylisted"}, Outcome.LATER),
        ({"END": "close"}, Outcome.LATER),
        ({"CONNECT": "554 go away"}, Outcome.LATER),
        ({"CONNECT": "close"}, Outcome.LATER),
    ],
)
async def test_what_the_server_says_decides(replies: dict[str, str], outcome: Outcome) -> None:
    async with smtp_server(replies=replies) as server:
        answers = await Smtp("127.0.0.1", server.port).send([MAIL])

    assert [answer.outcome for answer in answers] == [outcome]
    assert server.mails == []


async def test_a_server_that_hangs_up_is_called_again() -> None:
    async with smtp_server(per_connection_max=2) as server:
        answers = await Smtp("127.0.0.1", server.port).send([MAIL] * 5)

    assert [answer.outcome for answer in answers].count(Outcome.SENT) == 4
    assert [answer.outcome for answer in answers].count(Outcome.LATER) == 1
    assert (server.connections, len(server.mails)) == (2, 4)


async def test_a_silent_server_costs_a_bounded_time() -> None:
    async with smtp_server(replies={"EHLO": ""}) as server:
        answers = await Smtp("127.0.0.1", server.port, timeout_s=0.2).send([MAIL] * 3)

    assert [answer.outcome for answer in answers] == [Outcome.LATER] * 3
    assert server.connections <= 3


async def test_no_server_at_all_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async with smtp_server() as server:
        port = server.port

    answers = await Smtp("127.0.0.1", port).send([MAIL, MAIL])

    assert [answer.outcome for answer in answers] == [Outcome.LATER, Outcome.LATER]
    monkeypatch.setattr(smtp, "BATCH_S", 0.0)
    answers = await Smtp("127.0.0.1", port).send([MAIL])
    assert [answer.outcome for answer in answers] == [Outcome.LATER]


async def test_starttls_is_demanded_with_a_password() -> None:
    async with smtp_server() as server:  # offers none
        answers = await parse(f"smtp://u:p@127.0.0.1:{server.port}").send([MAIL])

    assert [answer.outcome for answer in answers] == [Outcome.LATER]
    assert server.mails == []


async def test_the_mailbox_keeps_private_files_and_a_bound(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail", kept_max=3)
    mails = [replace(MAIL, name=f"2026112{day}T000000-x-1") for day in range(5)]

    answers = await mailbox.send(mails)
    await mailbox.send([mails[4]])
    assert await mailbox.send([]) == []

    names = sorted(path.name for path in mailbox.folder.iterdir())
    assert [answer.outcome for answer in answers] == [Outcome.SENT] * 5
    assert names == [f"2026112{day}T000000-x-1.eml" for day in (2, 3, 4)]
    assert stat.S_IMODE((mailbox.folder / names[0]).stat().st_mode) == 0o600
    assert stat.S_IMODE(mailbox.folder.stat().st_mode) == 0o700
    assert read((mailbox.folder / names[0]).read_bytes())["Subject"] == MAIL.subject


async def test_a_mailbox_that_cannot_be_written_says_later(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)

    answers = await mailbox.send([replace(MAIL, name="no/such/folder")])

    assert [answer.outcome for answer in answers] == [Outcome.LATER]
