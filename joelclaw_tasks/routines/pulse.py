"""Pulse: one look of one check, from what the registry says of it to what people are told.

A check whose address or secret is not set is off: it finds nothing, and nothing is kept of it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.health import Health, Look, State
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_health import CheckSpec, url_fault
from joelclaw_tasks.routines.finding import Finding
from joelclaw_tasks.routines.run_check import run_check
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

_SEVERITIES: Mapping[State, str] = {
    "healthy": "info", "degraded": "warning", "unknown": "warning", "down": "error",
}  # fmt: skip


class Off(Exception):
    """The check is off, and why."""


class Pulse:
    """Looks, keeps, tells. One for each process."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        store: Store,
        notifier: Notifier,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self.health = Health(store)
        self._notifier = notifier
        self._env = os.environ if env is None else env

    def look(self, check: CheckSpec, id: str) -> Finding:
        """What the check finds now, in a process of its own. Raises Off, and CoreUnreachable."""
        asked = asked_of(check, self._settings, self._registry, self._env)
        asked |= {"look": id, "started_at": self.health.now_ms()}
        try:
            return run_check(asked)
        except OSError as error:
            return Finding.broken(f"no process could be started: {error.strerror}")

    def keep(self, check: CheckSpec, id: str, finding: Finding, restarts: int = 0) -> dict[str, Any]:
        """Keep it, and tell people when the state is another than they were told. Raises CoreUnreachable."""
        look = Look(
            id=id,
            check=check.name,
            status=finding.status,
            detail=finding.detail,
            latency_ms=finding.latency_ms,
            every_ms=check.every_ms,
            fails=check.fails,
            passes=check.passes,
            restarts=restarts,
        )
        standing = self.health.keep(look)
        # What the last look does not say itself is told by the next one.
        if standing.state != standing.told and standing.state == finding.status:
            self._tell(check.name, standing.state, standing.told, finding.detail)
            # Noted after it was told: whoever dies between the two is why it is told again, and notify knows
            # what it has told.
            self.health.tell(check.name, standing.state)
        return {"check": check.name, "state": standing.state, "restarts": restarts, **finding.to_wire()}

    def _tell(self, name: str, state: State, told: State | None, detail: str) -> None:
        title, cause = name[0].upper() + name[1:], f"health.{name}"
        if state == "healthy":
            if told is not None:
                self._notifier(f"{title} is well again.", cause=cause, change="resolved")
            return
        change = "opened" if told in (None, "healthy") else "changed"
        said = f"{title} {detail.rstrip('.')}."
        self._notifier(said, cause=cause, severity=_SEVERITIES[state], change=change)


#: After so many periods without any look the pulse stands still.
STILL_PERIODS = 5


def stand_still(pulse: Pulse, registry: Registry) -> bool:
    """Whether no check has looked for five periods of `beat`, though some have before; keeps that as a look.

    Called again within the same period, by whomever, it counts once. Raises CoreUnreachable.
    """
    beat = registry.checks["beat"]
    health, most_ms = pulse.health, STILL_PERIODS * beat.every_ms
    # What the watch itself kept of beat is no sign of life.
    looked = [each.checked_at for each in health.checks([n for n in registry.checks if n != "beat"]).values()]
    now_ms = health.now_ms()
    if not looked or now_ms - max(looked) <= most_ms:
        return False
    minutes = (now_ms - max(looked)) // 60_000
    finding = Finding("down", f"stands still: nothing was looked at for {minutes} min")
    pulse.keep(beat, f"watch:{now_ms // beat.every_ms}", finding)
    return True


def asked_of(
    check: CheckSpec, settings: Settings, registry: Registry, env: Mapping[str, str]
) -> dict[str, Any]:
    """What the process of a look is told, JSON-able; it may hold a secret. Raises Off."""
    if not check.enabled:
        raise Off("health.json says so")
    asked: dict[str, Any] = {
        "kind": check.kind, "timeout_s": check.timeout_ms / 1_000, "limit_s": check.limit_s,
        "every_ms": check.every_ms, "key_prefix": settings.key_prefix,
    }  # fmt: skip
    if check.kind in ("redis", "beat", "workers"):
        asked |= {"redis_url": settings.redis_url, "queues": sorted(registry.queues)}
    elif check.kind == "disk":
        asked["paths"] = [check.path] if check.path else [str(settings.home), str(settings.files_dir)]
    elif check.kind == "python":
        asked["target"] = check.target
    elif check.kind == "telegram":
        asked |= _with_token(
            "TELEGRAM_BOT_TOKEN", settings.telegram_bot_token, settings.telegram_bot_token_file
        )
        asked["url"] = settings.telegram_base_url
    elif check.kind == "anthropic":
        if not settings.use_models:
            raise Off("JOELCLAW_USE_MODELS says so")
        asked |= _with_token("ANTHROPIC_API_KEY", settings.anthropic_api_key, settings.anthropic_api_key_file)
        asked["url"] = settings.anthropic_base_url or "https://api.anthropic.com"
    else:
        url = _url_of(check, settings, env)
        endpoint = check.endpoint or ("/healthz" if check.kind == "ingress" else "")
        asked |= {"url": url.rstrip("/") + endpoint if endpoint else url}
        asked |= {"contains": check.contains, "slow_ms": check.slow_ms, "most_waiting": check.most_waiting}
    return asked


def is_scheduled(check: CheckSpec, settings: Settings, env: Mapping[str, str]) -> bool:
    """Whether beat is to send it. Beat need not have the secrets that workers have."""
    if not check.enabled:
        return False
    if check.kind == "telegram":
        has_token = settings.telegram_bot_token or settings.telegram_bot_token_file
        return bool(has_token) or "telegram" in settings.notify
    if check.kind == "ingress" or check.url_env is None:
        return True
    return bool(env.get(check.url_env))


def _with_token(variable: str, value: str | None, file: Any) -> dict[str, Any]:
    try:
        tokens = Credentials(value, file)()
    except SettingsError as error:
        raise Off(str(error)) from None
    if not tokens:
        raise Off(f"{variable} is not set")
    return {"token": tokens[0].strip()}


def _url_of(check: CheckSpec, settings: Settings, env: Mapping[str, str]) -> str:
    if check.url is not None:
        return check.url
    given = env.get(check.url_env, "") if check.url_env else ""
    if given:
        fault = url_fault(check.kind, given)
        # One with a password is meant where only this process sees it.
        if fault is not None and not fault.startswith("holds"):
            raise Off(f"{check.url_env} {fault}")
        return given
    if check.kind == "ingress":
        try:
            return str(json.loads(settings.fleet_file.read_text())["ingress_url"])
        except (OSError, ValueError, KeyError, TypeError):
            if settings.ingress_port:
                return f"http://127.0.0.1:{settings.ingress_port}"
            raise Off("nothing says where the ingress is; set INGRESS_URL") from None
    raise Off(f"{check.url_env} is not set")
