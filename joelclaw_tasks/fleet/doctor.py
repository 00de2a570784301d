"""The doctor: looks at everything a working fleet rests on, and says what to do where it is not well."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from joelclaw_tasks.address import without_password
from joelclaw_tasks.errors import RegistryError, SettingsError
from joelclaw_tasks.fleet.check import Check, fail, ok
from joelclaw_tasks.fleet.fleet_checks import process_checks, queue_checks, secret_checks
from joelclaw_tasks.fleet.home import FleetHome
from joelclaw_tasks.fleet.machine_checks import disk_check, package_check, python_check, server_check
from joelclaw_tasks.fleet.notify_checks import notify_checks
from joelclaw_tasks.fleet.pulse_checks import pulse_checks
from joelclaw_tasks.fleet.redis_checks import redis_checks, same_redis_check
from joelclaw_tasks.fleet.restate_checks import restate_checks
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings


def examine(home: Path | None = None, env: Mapping[str, str] | None = None) -> Iterator[Check]:
    """Every check, in the order in which things rest on each other.

    Never raises: a check that cannot be made is a check that failed. `home` None: JOELCLAW_HOME.
    """
    env = os.environ if env is None else env
    yield python_check()
    yield from _guarded("packages", lambda: iter([package_check()]))
    try:
        settings = Settings.load(env, home=home)
    except SettingsError as error:
        yield fail("settings", str(error), error.fix)
        return
    yield ok("settings", _effective(settings))
    yield from _guarded("disk", lambda: disk_check(settings.home))
    yield server_check(given_url=bool(env.get("REDIS_URL")))
    state = FleetHome(settings.home).read_state()
    yield from _guarded("fleet", lambda: process_checks(state))
    yield from _guarded("secrets", lambda: secret_checks(state, env))
    yield from _guarded("which redis", lambda: iter([same_redis_check(state, env)]))
    redis = list(_guarded("redis", lambda: redis_checks(settings.redis_url)))
    yield from redis
    reachable = any(check.name == "redis" and check.status == "ok" for check in redis)
    yield from _guarded("notify", lambda: notify_checks(settings, reachable=reachable))
    yield from _guarded(
        "registry", lambda: _registry_checks(settings, reachable=reachable, fleet_runs=state is not None)
    )
    if reachable:
        yield from _guarded("health pulse", lambda: _pulse_checks(settings, fleet_runs=state is not None))


def _guarded(name: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from checks()
    except Exception as error:  # noqa: BLE001 - what is wrong here must not hide the other findings
        detail = f"could not be checked: {type(error).__name__}: {error}"
        yield fail(name, detail, "This is a defect of the doctor: please report it.")


def _registry_checks(settings: Settings, *, reachable: bool, fleet_runs: bool) -> Iterator[Check]:
    try:
        registry = Registry.load(settings.registry_dir)
    except RegistryError as error:
        yield fail("registry", str(error), error.fix)
        return
    counted = f"{len(registry.events)} events, {len(registry.handlers)} handlers"
    yield ok("registry", f"{counted} in {settings.registry_dir}, version {registry.version}")
    faults = registry.check_targets()
    if faults:
        yield fail("targets", "\n".join(faults), "Correct the named targets in the registry, or the modules.")
    else:
        yield ok("targets", "every handler can be imported")
    yield from restate_checks(settings, registry)
    if reachable and settings.redis_url is not None:
        yield from queue_checks(settings.redis_url, registry.queues, expected=fleet_runs)


def _pulse_checks(settings: Settings, *, fleet_runs: bool) -> Iterator[Check]:
    try:
        registry = Registry.load(settings.registry_dir)
    except RegistryError:
        return  # it was said already
    yield from pulse_checks(settings, registry, fleet_runs=fleet_runs)


def _effective(settings: Settings) -> str:
    """What is in force; a secret is only said to be set or missing."""
    shown = []
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if not setting.repr:
            value = "set" if value else "missing"
        elif setting.name == "redis_url" and value is not None:
            value = without_password(value)
        shown.append(f"{setting.name}={value}")
    return ", ".join(shown)
