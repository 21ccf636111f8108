"""H35: settings of the house and themes of shops stay the text they are, whatever it says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from domain import merchants
from domain.core import ids
from domain.core.settings import Settings, SettingsWrong, load
from tests import make

HOSTILE: list[tuple[str, Callable[[Path], str]]] = [
    ("python", lambda mark: f"__import__('pathlib').Path({str(mark)!r}).touch()"),
    ("format", lambda mark: "{0.__class__.__init__.__globals__}"),
    ("template", lambda mark: "{{ cycler.__init__.__globals__.os.popen('id').read() }}"),
    ("shell", lambda mark: f"$(touch {mark}) `touch {mark}`; touch {mark}"),
    ("yaml", lambda mark: f"!!python/object/apply:os.system ['touch {mark}']"),
    ("lookup", lambda mark: "${jndi:ldap://127.0.0.1:1/a}"),
    ("percent", lambda mark: "%(password)s %n %s"),
    ("script", lambda mark: "<script>alert(1)</script>"),
]
NAMES = [name for name, _ in HOSTILE]
TEXTS = sorted(
    name for name, field in Settings.model_fields.items() if "str" in str(field.annotation)
)


def test_there_are_settings_to_try() -> None:
    assert {"public_url", "mail_from", "host"} <= set(TEXTS)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", TEXTS)
def test_h35_a_setting_is_refused_or_stays_its_text(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    text = dict(HOSTILE)[kind](mark)
    monkeypatch.setenv("KAMI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(f"KAMI_{name.upper()}", text)

    kept = None
    with contextlib.suppress(SettingsWrong):
        kept = str(getattr(load(), name))

    assert kept in (None, "**********", text) or text in kept
    assert not mark.exists()


@pytest.mark.parametrize("kind", NAMES)
async def test_h35_a_theme_comes_back_as_it_was_given(db: None, kind: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    of = await make.shop(keys=0)
    theme = {"colour": dict(HOSTILE)[kind](mark), "nested": {kind: [dict(HOSTILE)[kind](mark)]}}
    handle = f"theme-{ids.uuid7().hex[-8:]}"

    await merchants.open_shop(of.merchant_id, handle, {"en": "A shop"}, theme)
    found = await merchants.shop_by_handle(handle)

    assert found is not None
    assert found.theme == theme
    assert not mark.exists()
