"""No mail leads nowhere: every link that a mail can carry is a page that this server answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.routing import Match

from domain.core import ids, letters, vault
from domain.core.settings import settings
from domain.notifications import actions
from domain.notifications.rules import MAILS, PAGES, Letter, Template
from server.app import _routes


def _answered(link: str) -> bool:
    """Whether a GET of the link finds a page."""
    parts = urlsplit(link)
    assert f"{parts.scheme}://{parts.netloc}" == settings().public_url
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": parts.path, "headers": []}
    return any(one.matches(scope)[0] is Match.FULL for one in _routes(settings()))


@pytest.mark.parametrize("template", Template)
def test_the_link_of_every_mail_about_an_order_is_a_page(template: Template) -> None:
    audience = next(who for row in MAILS.values() for what, who in row if what is template)
    row = {"audience": audience, "template": template, "order_id": ids.uuid7()}

    link = actions._link(row)

    if template is Template.WEBHOOK_DISABLED:
        assert link is None
    else:
        assert link is not None and _answered(link)


@pytest.mark.parametrize("letter", Letter)
def test_the_link_of_every_letter_is_a_page(letter: Letter) -> None:
    letter_id = ids.uuid7()
    sealed = vault.seal(letters._place(letter_id), b"kami_l_x")
    row = {"audience": "account", "template": letter, "id": letter_id, "secret": sealed}

    link = actions._link(row)

    assert (link is None) == (letter not in PAGES)
    assert link is None or _answered(link)


def test_what_leads_nowhere_is_noticed() -> None:
    assert not _answered(f"{settings().public_url}/console/orders/ord_1")
