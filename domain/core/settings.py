"""Settings: `KAMI_*` environment variables, typed and checked once, with an answer for every mistake.

In development missing secrets are made once and kept in `<data_dir>/secrets.env` (0600). In production nothing
is made up: what is missing or unsafe refuses to start with the name of the setting and how to make one.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from domain.core import production, spelling
from domain.core.spelling import MAKE_ONE

ROOT = Path(__file__).resolve().parents[2]
# Connections that one process may open; the sum over all processes stays below max_connections.
API_CONNECTIONS = 10
WORKER_CONNECTIONS = 16
SECRETS = ("master_key", "signing_key", "sandbox_secret")
SECRETS_FILE = "secrets.env"
_KEY_BYTES = 32
_DISTINCT_BYTES_MIN = 12  # 32 random bytes have fewer distinct ones about never; "AAAA…" has one


class SettingsWrong(Exception):
    """The configuration cannot be used; `problems` holds one sentence per setting, with the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SupplierSettings(BaseModel):
    """Where a supplier is called and the secret both sides sign with."""

    url: str
    secret: SecretStr


def _api_processes() -> int:
    """One for every two processors: the other half is for PostgreSQL and the workers.

    Two on two processors cost a third more per purchase: requests meet in smaller sets (docs/performance.md).
    """
    return max(1, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else 1


class Settings(BaseSettings):
    """All settings of one process. Read them through `settings()`."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="KAMI_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    env: Literal["development", "production", "test"] = "development"
    data_dir: Path = ROOT / ".kami"
    database_url: str | None = Field(default=None, repr=False)
    # Who owns the tables, for `kami migrate` alone; without it KAMI_DATABASE_URL does both.
    owner_database_url: str | None = Field(default=None, repr=False)
    redis_url: str | None = Field(default=None, repr=False)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    public_url: str = ""
    trusted_proxies: Annotated[list[str], NoDecode, BeforeValidator(spelling.proxies)] = []
    # Names besides that of the public URL under which this platform is reached, and foreign pages that may call it.
    allowed_hosts: Annotated[list[str], NoDecode, BeforeValidator(spelling.hosts)] = []
    allowed_origins: Annotated[list[str], NoDecode, BeforeValidator(spelling.origins)] = []
    api_processes: int = Field(default_factory=_api_processes, ge=1, le=64)
    workers_separate: bool = False

    master_key: SecretStr
    # Raise the version when the master key is changed and keep the old one as "1:<base64url>" until nothing uses it.
    master_key_version: int = Field(default=1, ge=1, le=255)
    master_keys_retired: SecretStr = SecretStr("")
    signing_key: SecretStr

    sandbox_url: str | None = None
    sandbox_secret: SecretStr = SecretStr("")
    sandbox_autoconfirm_ms: int | None = Field(default=None, ge=0)

    geoip_db: Path | None = None
    fx_feed: Literal["ecb_snapshot", "ecb", "manual"] = "ecb_snapshot"
    fx_spread_bps: int = Field(default=20, ge=0, le=29)  # 29: within 0.3 % seen from either side
    fx_jump_bps: int = Field(default=1_000, ge=1)  # a larger change of a rate waits for a person
    fx_stale_after_h: int = Field(default=144, ge=1)  # six days: Easter closes the ECB for five
    fx_manual_rates: Annotated[dict[str, Decimal], NoDecode] = {}  # units for one euro
    # A person's time to decide about an order that risk holds; then its money goes back.
    risk_hold_hours: int = Field(default=24, ge=1)
    # Whether somebody without a second factor has to enrol one for what takes it; as in production when not said.
    mfa_required: bool | None = None
    # How long somebody's role, password and second factors must have stayed as they are before they approve what a
    # colleague asks for; when not said 24 in production, 0 elsewhere: a shop that is tried out was made just now.
    four_eyes_settle_hours: int | None = Field(default=None, ge=0, le=720)
    # How long a new or another payout destination can still be stopped after it was approved.
    payout_cool_down_hours: int = Field(default=72, ge=0, le=720)
    # More than so many orders opened, or keys exported, within an hour raise an alarm; 0 never does.
    alarm_reveals_per_account: int = Field(default=200, ge=0)
    alarm_reveals_per_merchant: int = Field(default=50_000, ge=0)
    alarm_exported_per_account: int = Field(default=10_000, ge=0)
    alarm_exported_per_merchant: int = Field(default=20_000, ge=0)
    # A refund worth more than this takes a second factor; US cents.
    refund_step_up_minor: int = Field(default=50_000, ge=0)
    # docs/guides/supplier.md
    suppliers: Annotated[dict[str, SupplierSettings], NoDecode] = Field(default={}, repr=False)
    smtp_url: str | None = Field(default=None, repr=False)
    mail_from: str = "Kami <no-reply@kami.test>"
    # For trying things out on one machine: webhooks may go to http:// and to this machine itself. Never in production.
    webhooks_to_loopback: bool = False
    live_heartbeat_s: float = Field(default=15, gt=0)
    # A session ends so long after it was opened, and so long after it was last used.
    session_days: int = Field(default=14, ge=1, le=365)
    session_idle_hours: int = Field(default=72, ge=1)
    # Query cost a caller may have in hand, and what comes back per second; without a value 1,000 and 100 in
    # production, a thousand times as much in development, where one address plays all the buyers.
    cost_capacity: int | None = Field(default=None, gt=0)
    cost_refill: int | None = Field(default=None, gt=0)

    # Live streams one account or address may have open on one API process; 500 in production, 50,000 in development.
    streams_max: int | None = Field(default=None, gt=0)

    # Partner apps: opaque access tokens, or JWTs that other services of yours can read (RFC 9068); both are looked up.
    access_tokens: Literal["opaque", "jwt"] = "opaque"
    # Whether apps may register themselves (RFC 7591); otherwise a merchant's developers register them.
    app_registration: bool = False

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "json"
    otel_endpoint: str | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment only: a forgotten `.env` in the current folder must not configure a money system."""
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        """Defaults that depend on other values; development finds its secrets in the data folder."""
        values: dict[str, Any] = dict(given)
        env = values.get("env", "development")
        if env not in ("development", "test"):
            return values
        folder = Path(values.get("data_dir") or cls.model_fields["data_dir"].default)
        if any(name not in values for name in SECRETS):
            values = {**ensure_secrets(folder), **values}
        values.setdefault("log_format", "console")
        values.setdefault("sandbox_autoconfirm_ms", 300)
        port = str(values.get("port", 8000))
        if "sandbox_url" not in values and port.isascii() and port.isdigit():
            values["sandbox_url"] = (
                f"http://{reachable(str(values.get('host', '127.0.0.1')))}:{int(port) + 1}"
            )
        return values

    @field_validator("data_dir", "geoip_db")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else Path(os.path.abspath(path.expanduser()))

    @field_validator("fx_manual_rates", mode="before")
    @classmethod
    def _rates(cls, given: Any) -> Any:
        return spelling.rates(given) if isinstance(given, str) else given

    @field_validator("suppliers", mode="before")
    @classmethod
    def _suppliers(cls, given: Any) -> Any:
        return spelling.suppliers(given) if isinstance(given, str) else given

    @field_validator("sandbox_url", "otel_endpoint", "public_url")
    @classmethod
    def _web(cls, url: str | None) -> str | None:
        return spelling.web(url)

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, url: str | None) -> str | None:
        return spelling.smtp(url)

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, text: str) -> str:
        return spelling.sender(text)

    @field_validator("master_key", "signing_key", "sandbox_secret")
    @classmethod
    def _key(cls, key: SecretStr, info: ValidationInfo) -> SecretStr:
        text = key.get_secret_value()
        if info.field_name == "sandbox_secret" and not text:
            return key
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise ValueError(f"not base64url; make one with: {MAKE_ONE}") from None
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"{len(raw)} bytes instead of {_KEY_BYTES}; make one with: {MAKE_ONE}")
        if len(set(raw)) < _DISTINCT_BYTES_MIN:
            raise ValueError(f"not random; make one with: {MAKE_ONE}")
        return key

    @field_validator("database_url", "owner_database_url")
    @classmethod
    def _database(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("postgresql", "postgres"):
            raise ValueError("must look like postgresql://user:password@host:5432/kami")
        return url

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in ("redis", "rediss", "unix"):
            raise ValueError(
                "must look like redis://user:password@host:6379/0, rediss://… or unix:///path"
            )
        return url

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        if not self.public_url:
            object.__setattr__(self, "public_url", f"http://{reachable(self.host)}:{self.port}")
        object.__setattr__(self, "public_url", self.public_url.rstrip("/"))
        return self

    @property
    def in_development(self) -> bool:
        """GraphiQL, introspection, `?from=HK` and the mailbox are open only here and in tests."""
        return self.env != "production"

    @property
    def must_enrol(self) -> bool:
        """Whether what takes a second factor is closed to accounts that have none."""
        return not self.in_development if self.mfa_required is None else self.mfa_required

    @property
    def settle_hours(self) -> int:
        """Hours before a new or changed person may approve what another one asked for."""
        if self.four_eyes_settle_hours is not None:
            return self.four_eyes_settle_hours
        return 0 if self.in_development else 24

    def master_keys(self) -> dict[int, bytes]:
        """Every known master key by version: the one that seals has the highest. Errors: SettingsWrong."""
        found = {self.master_key_version: self.secret("master_key")}
        for entry in filter(None, self.master_keys_retired.get_secret_value().split(",")):
            version, _, text = entry.strip().partition(":")
            try:
                raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except (binascii.Error, ValueError):
                raw = b""
            is_older = (
                version.isascii() and version.isdigit() and int(version) < self.master_key_version
            )
            if not is_older or len(raw) != _KEY_BYTES:
                raise SettingsWrong(
                    [
                        "KAMI_MASTER_KEYS_RETIRED takes <lower version>:<base64url of 32 bytes>, comma separated"
                    ]
                )
            found[int(version)] = raw
        return found

    def secret(self, name: str) -> bytes:
        """The 32 raw bytes of one of `SECRETS`. Errors: SettingsWrong when it is not set."""
        text: str = getattr(self, name).get_secret_value()
        if not text:  # an empty key signs happily
            raise SettingsWrong([f"KAMI_{name.upper()} is missing. Make one with: {MAKE_ONE}"])
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def reachable(host: str) -> str:
    """A host one can type into a browser for the address we listen on."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def make_data_dir(path: Path) -> None:
    """Create the data folder: closed to others, but root's can be passed through (0711).

    As root the embedded servers run as another user, whose own folders lie inside.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)


def ensure_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets of a development data folder; made once, readable by its owner only (0600).

    Safe when several processes start together: the first complete file wins, nobody sees half of one.
    """
    path = Path(data_dir) / SECRETS_FILE
    if not path.exists():
        make_data_dir(path.parent)
        draft = path.with_name(f"{SECRETS_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
        lines = [
            "# Made once for this data folder. Without the master key its card keys cannot be read again."
        ]
        lines += [f"KAMI_{name.upper()}={secrets.token_urlsafe(_KEY_BYTES)}" for name in SECRETS]
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    found: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.startswith("KAMI_") and value:
            found[name.removeprefix("KAMI_").lower()] = value.strip()
    return {name: found[name] for name in SECRETS if name in found}


def load() -> Settings:
    """Read and check the environment. Errors: SettingsWrong with every problem found."""
    try:
        # The mypy plugin is not used: required fields come from the environment.
        found = Settings()  # type: ignore[call-arg,unused-ignore]
    except ValidationError as error:
        problems = error.errors()
        # What is missing depends on the environment: a wrong one is the only problem worth telling.
        of_env = [problem for problem in problems if problem["loc"][:1] == ("env",)]
        raise SettingsWrong(
            [spelling.sentence(problem) for problem in of_env or problems]
        ) from None
    except OSError as error:
        raise SettingsWrong(
            [f"KAMI_DATA_DIR cannot be used: {error}. Name a folder that this user may write to"]
        ) from None
    found.master_keys()  # the retired ones too, before anything needs one of them
    if found.fx_feed == "manual" and not found.fx_manual_rates:
        raise SettingsWrong(
            [
                'KAMI_FX_MANUAL_RATES is missing while KAMI_FX_FEED=manual. Set it like {"USD": "1.08"}'
            ]
        )
    if found.env == "production":
        unsafe = production.unsafe(found)
        if unsafe:
            raise SettingsWrong(unsafe)
    return found


@cache
def settings() -> Settings:
    """The settings of this process, read once. Errors: SettingsWrong."""
    return load()
