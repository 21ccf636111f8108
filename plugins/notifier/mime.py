"""A mail as bytes on the wire: MIME with a plain and an HTML part, written by hand because it is
ten times faster."""

from __future__ import annotations

import base64
from email.header import Header
from email.utils import formataddr, formatdate, parseaddr
from functools import lru_cache

from domain.notifications.ports import Mail

_LINE = 76


def compose(mail: Mail) -> bytes:
    """The message (RFC 5322, RFC 2046); parts are base64: no line is long, no byte is odd."""
    boundary = f"=_{mail.message_id.partition('@')[0]}"  # "=_" cannot occur in base64
    head = (
        f"From: {_sender(mail.sender)}\r\n"
        f"To: {mail.recipient}\r\n"
        f"Subject: {_words(mail.subject)}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\n"
        f"Message-ID: <{mail.message_id}>\r\n"
        "MIME-Version: 1.0\r\n"
        "Auto-Submitted: auto-generated\r\n"
        f"Content-Language: {mail.language}\r\n"
        f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n'
    )
    return b"".join(
        (
            head.encode("ascii"),
            _part(boundary, "plain", mail.text),
            _part(boundary, "html", mail.html),
            f"--{boundary}--\r\n".encode("ascii"),
        )
    )


def address(sender: str) -> str:
    """The bare address of "Kami <no-reply@kami.test>", for the envelope."""
    return parseaddr(sender)[1]


def _part(boundary: str, kind: str, text: str) -> bytes:
    encoded = base64.b64encode(text.encode("utf-8", "replace"))
    lines = b"\r\n".join(encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE))
    head = (
        f"--{boundary}\r\nContent-Type: text/{kind}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode("ascii") + lines + b"\r\n"


def _words(text: str) -> str:
    """An unstructured header: as it is when plain ASCII fits on the line, else RFC 2047 words."""
    if text.isascii() and text.isprintable() and len(text) <= _LINE and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


@lru_cache(maxsize=8)
def _sender(sender: str) -> str:
    return formataddr(parseaddr(sender))
