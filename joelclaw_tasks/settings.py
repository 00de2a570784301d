"""Settings: read once from the environment, checked, frozen, passed around.

Precedence, highest first: an argument, the running fleet (`<home>/fleet.json`, so that every
command talks to the same Redis as the workers), the environment, the default. Secrets come
from the environment only and are never part of a repr.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joelclaw_tasks.address import FORMS, Address
from joelclaw_tasks.errors import SettingsError

#: Setting name -> environment variable. JOELCLAW_<NAME> unless listed here.
_ENV_NAMES = {
    "redis_url": "REDIS_URL",
    "triage_mode": "QUEUE_TRIAGE_MODE",
    "triage_families": "QUEUE_TRIAGE_FAMILIES",
    "triage_enforce_families": "QUEUE_TRIAGE_ENFORCE_FAMILIES",
    "github_webhook_secret": "GITHUB_WEBHOOK_SECRET",
    "github_webhook_secret_file": "GITHUB_WEBHOOK_SECRET_FILE",
    "anthropic_api_key": "ANTHROPIC_API_KEY",
    "anthropic_api_key_file": "ANTHROPIC_API_KEY_FILE",
    "anthropic_base_url": "ANTHROPIC_BASE_URL",
    "observer_mode": "QUEUE_OBSERVER_MODE",
    "observer_operator": "QUEUE_OBSERVER_OPERATOR",
    "observer_families": "QUEUE_OBSERVER_FAMILIES",
    "observer_auto_families": "QUEUE_OBSERVER_AUTO_FAMILIES",
    "observer_interval_seconds": "QUEUE_OBSERVER_INTERVAL_SECONDS",
    "observer_night_families": "QUEUE_OBSERVER_NIGHT_FAMILIES",
    "observer_quiet_hours": "QUEUE_OBSERVER_QUIET_HOURS",
    "diagnosis_mode": "QUEUE_DIAGNOSIS_MODE",
    "digest_mode": "QUEUE_DIGEST_MODE",
    "restate_ingress_url": "RESTATE_INGRESS_URL",
    "restate_admin_url": "RESTATE_ADMIN_URL",
    "telegram_bot_token": "TELEGRAM_BOT_TOKEN",
    "telegram_bot_token_file": "TELEGRAM_BOT_TOKEN_FILE",
    "telegram_chat_ids": "TELEGRAM_CHAT_IDS",
    "telegram_webhook_secret": "TELEGRAM_WEBHOOK_SECRET",
    "telegram_webhook_secret_file": "TELEGRAM_WEBHOOK_SECRET_FILE",
    "telegram_base_url": "TELEGRAM_BASE_URL",
    "todoist_api_token": "TODOIST_API_TOKEN",
    "todoist_api_token_file": "TODOIST_API_TOKEN_FILE",
    "todoist_base_url": "TODOIST_BASE_URL",
}
#: Settings that are one word of a list.
_WORDS = {
    "observer_mode": ("off", "dry-run", "enforce"),
    "observer_operator": ("static", "sonnet"),
    "diagnosis_mode": ("off", "on"),
    "digest_mode": ("off", "rules", "model", "batch"),
}
#: Settings with a least and a most value.
_BOUNDS = (
    ("ingress_processes", 0, 64),
    ("watch_quiet_ms", 20, 60_000),
    ("watch_rescan_s", 1, 86_400),
    ("rules_limit_ms", 50, 60_000),
)
_WEB_ADDRESSES = (
    "anthropic_base_url",
    "notify_webhook_url",
    "restate_admin_url",
    "restate_ingress_url",
    "telegram_base_url",
    "todoist_base_url",
)
_DEFAULT_HOME = Path(".joelclaw")
_ROOT = Path(__file__).resolve().parent.parent


def _default_registry_dir() -> Path:
    """The checkout's registry/, else the copy inside the installed package."""
    checkout = _ROOT / "registry"
    return checkout if checkout.is_dir() else Path(__file__).parent / "default_registry"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. Durations carry their unit in the name."""

    home: Path = _DEFAULT_HOME
    redis_url: str | None = None
    registry_dir: Path = field(default_factory=_default_registry_dir)
    data_dir: Path | None = None  # where handlers write; None: <home>/data
    spool: Path | None = None  # where events wait while Redis is away; None: they are refused then
    key_prefix: str = "{jc}:"
    payload_max_bytes: int = 1_048_576
    default_priority: int = 2
    slack_p0_ms: int = 0
    slack_p1_ms: int = 60_000
    slack_p2_ms: int = 300_000
    slack_p3_ms: int = 900_000
    lease_ms: int = 15_000
    max_kills: int = 3
    stall_s: int = 45  # a worker that stands still for so long ends itself, to be started again; 0: never
    keep_finished_ms: int = 86_400_000  # how long a finished event job is remembered as a duplicate
    transitions_max: int = 100_000
    dead_keep_days: int = 30  # how long a job stays in the dead letter, 0: without bound
    dead_max: int = 100_000  # jobs in the dead letter, the oldest go first; 0: without bound
    # See triage_modes.py. Families by comma, or a short name of several; none: all.
    triage_mode: str = "off"
    triage_families: str = ""
    triage_enforce_families: str = ""
    triage_hold_ms: int = 2_000  # the longest that a job waits for its score
    ingress_host: str = "127.0.0.1"
    ingress_port: int = 0  # 0: a free port
    ingress_processes: int = 0  # 0: two, or one where there is one CPU
    # Count webhooks by X-Forwarded-For when they come over a tunnel or proxy on this machine.
    ingress_trust_forwarded: bool = False
    flower_port: int = 0
    events_token: str | None = field(default=None, repr=False)
    github_webhook_secret: str | None = field(default=None, repr=False)
    # One value a line; all of them are accepted, and the file is read again when it changes.
    events_token_file: Path | None = None
    github_webhook_secret_file: Path | None = None
    # See core/signing.py. Of a file the first line signs, and every line is accepted.
    signing_key: str | None = field(default=None, repr=False)
    signing_key_file: Path | None = None
    require_signed: bool = False  # workers run nothing that is not signed
    use_models: bool = True  # without a key nothing is asked anyway
    # Of a file the first line is used.
    anthropic_api_key: str | None = field(default=None, repr=False)
    anthropic_api_key_file: Path | None = None
    anthropic_base_url: str | None = field(default=None, repr=False)  # it may hold a password
    # The observer; families are names or aliases with commas between, * is every one (docs/observer.md).
    observer_mode: str = "off"  # off, dry-run or enforce
    observer_operator: str = "static"  # who proposes: static (fixed rules), or sonnet (a model)
    observer_families: str = ""  # which it looks at; none named: those of the registry
    observer_auto_families: str = ""  # which it may act on
    observer_interval_seconds: int = 60  # 60 at least
    observer_night_families: str = ""  # which rest in the quiet hours
    observer_quiet_hours: str = "23:00-07:00 America/Los_Angeles"
    diagnosis_mode: str = "off"  # on: failures that last are diagnosed without asking (docs/diagnosis.md)
    # See docs/watch.md.
    watch_dirs: str = ""  # with commas between: what `joelclaw up` watches; none: nothing
    watch_quiet_ms: int = 200  # a file is being written until it has not changed for so long
    watch_rescan_s: int = 60  # how often everything is looked at, whatever the system told
    rules_dir: Path | None = None  # modules of validation rules; None: rules/ below the data directory
    rules_limit_ms: int = 2_000  # how long a rule may run on one file
    # See docs/digest.md.
    digest_mode: str = "off"  # rules: without a model; model: asks at once; batch: for half the price
    digest_window_s: int = 3_600  # a day must be a multiple of it, 300 at least
    # See docs/restate.md.
    with_restate: bool = False  # `joelclaw up` runs a Restate server of its own
    restate_ingress_url: str | None = field(default=None, repr=False)  # they may hold a password
    restate_admin_url: str | None = field(default=None, repr=False)
    restate_timeout_s: int = 10  # the longest that a request to Restate may take
    # Who is told, and how much (docs/notify.md). Of a file of secrets the first line is used, but every line
    # of telegram_webhook_secret_file is accepted.
    notify: str = "console"  # any of console, telegram, todoist, webhook, with commas between
    notify_quiet_hours: str = ""  # as above; none: all hours are loud
    notify_cooldown_s: int = 900  # how long a cause is quiet after it was told
    notify_most_per_hour: int = 20  # messages to each sink but the console; 0: any number
    notify_digest_lines: int = 20
    notify_webhook_url: str | None = field(default=None, repr=False)  # it may hold a password
    notify_webhook_secret: str | None = field(default=None, repr=False)
    notify_webhook_secret_file: Path | None = None
    telegram_bot_token: str | None = field(default=None, repr=False)
    telegram_bot_token_file: Path | None = None
    telegram_chat_ids: str = ""  # with commas between: who is told, and who may press buttons
    telegram_webhook_secret: str | None = field(default=None, repr=False)
    telegram_webhook_secret_file: Path | None = None
    telegram_base_url: str = field(default="https://api.telegram.org", repr=False)
    todoist_api_token: str | None = field(default=None, repr=False)
    todoist_api_token_file: Path | None = None
    todoist_base_url: str = field(default="https://api.todoist.com", repr=False)

    @property
    def slack_ms(self) -> tuple[int, int, int, int]:
        """Slack of P0, P1, P2, P3 in milliseconds."""
        return (self.slack_p0_ms, self.slack_p1_ms, self.slack_p2_ms, self.slack_p3_ms)

    @property
    def files_dir(self) -> Path:
        """Where handlers keep their files."""
        return self.data_dir if self.data_dir is not None else self.home / "data"

    @property
    def watched(self) -> tuple[Path, ...]:
        """The folders of watch_dirs, links resolved."""
        names = [name.strip() for name in self.watch_dirs.split(",")]
        return tuple(Path(name).expanduser().resolve() for name in names if name)

    @property
    def spool_file(self) -> Path:
        """Where `joelclaw emit --spool` keeps events, and what the fleet replays."""
        return self.spool if self.spool is not None else self.home / "spool" / "events.jsonl"

    @property
    def fleet_file(self) -> Path:
        """What `joelclaw up` writes: URLs, ports and process ids of the running fleet (mode 0600)."""
        return self.home / "fleet.json"

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the environment; refuse unknown JOELCLAW_* names and bad values with a clear error.

        Raises SettingsError.
        """
        env = os.environ if env is None else env
        known = {_variable(f.name): f for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in env.items():
            if name in known:
                if text != "":
                    setting = known[name]
                    values[setting.name] = _convert(name, text, str(setting.type))
            elif name.startswith("JOELCLAW_"):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise SettingsError(f"unknown setting {name}{hint}")
        home = Path(overrides.get("home") or values.get("home") or _DEFAULT_HOME)
        values.update(_running_fleet(home / "fleet.json"))
        values.update({name: value for name, value in overrides.items() if value is not None})
        return _checked(cls(**values))


def _variable(name: str) -> str:
    """The environment variable of a setting."""
    return _ENV_NAMES.get(name, f"JOELCLAW_{name.upper()}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there. No host means all addresses."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _convert(name: str, text: str, kind: str) -> Any:
    try:
        if "Path" in kind:
            return Path(text).expanduser()
        if kind == "bool":
            return _switch(name, text)
        return int(text) if kind == "int" else text
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {text!r}") from None


def _switch(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise SettingsError(f"{name} must be 1 or 0, not {text!r}")


def _running_fleet(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text())
        found = {"redis_url": state["redis_url"]}
        urls = {name: state.get(name) for name in ("restate_ingress_url", "restate_admin_url")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found | {name: url for name, url in urls.items() if url}


def _checked(settings: Settings) -> Settings:
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if isinstance(value, int) and value < 0:
            raise SettingsError(f"{setting.name} must not be negative, not {value}")
    _check_addresses(settings)
    if settings.digest_window_s < 300 or 86_400 % settings.digest_window_s:
        raise SettingsError(
            f"digest_window_s must go into a day, and be 300 at least, not {settings.digest_window_s}"
        )
    if not 1 <= settings.restate_timeout_s <= 300:
        raise SettingsError(f"restate_timeout_s must be 1 to 300, not {settings.restate_timeout_s}")
    if not 0 <= settings.default_priority <= 3:
        raise SettingsError(f"default_priority must be 0 to 3, not {settings.default_priority}")
    if list(settings.slack_ms) != sorted(settings.slack_ms):
        raise SettingsError(f"slack must grow from P0 to P3, not {settings.slack_ms}")
    if settings.lease_ms < 1_000:
        raise SettingsError(f"lease_ms must be at least 1000, not {settings.lease_ms}")
    if settings.triage_hold_ms > 60_000:
        raise SettingsError(f"triage_hold_ms must be at most 60000, not {settings.triage_hold_ms}")
    for name, words in _WORDS.items():
        value = getattr(settings, name)
        if value not in words:
            known = f"{', '.join(words[:-1])} or {words[-1]}"
            raise SettingsError(f"{_ENV_NAMES[name]} must be {known}, not {value!r:.40}")
    _check_bounds(settings)
    if settings.max_kills < 1:
        raise SettingsError(f"max_kills must be at least 1, not {settings.max_kills}")
    return settings


def _check_bounds(settings: Settings) -> None:
    for name, least, most in _BOUNDS:
        given = getattr(settings, name)
        if not least <= given <= most:
            raise SettingsError(f"{_variable(name)} must be {least} to {most}, not {given}")


def _check_addresses(settings: Settings) -> None:
    # An address itself may hold a password.
    if settings.redis_url is not None:
        try:
            Address.parse(settings.redis_url)
        except ValueError:
            raise SettingsError(f"REDIS_URL must be {FORMS}") from None
    for name in _WEB_ADDRESSES:
        url = getattr(settings, name)
        if url is not None and not _is_web_address(url):
            raise SettingsError(f"{_variable(name)} must be http(s)://host[:port][/path]")
