"""launch: bring a whole fleet up on this machine, and down again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from joelclaw_tasks.address import without_password
from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.child import View
from joelclaw_tasks.fleet.home import FleetHome
from joelclaw_tasks.fleet.leftovers import end_leftovers
from joelclaw_tasks.fleet.process_spec import ProcessSpec, reachable
from joelclaw_tasks.fleet.processes import fleet_processes
from joelclaw_tasks.fleet.redis_policy import require_safe
from joelclaw_tasks.fleet.redis_server import prepare
from joelclaw_tasks.fleet.replaying import keep_replaying
from joelclaw_tasks.fleet.restate_server import RestateServer
from joelclaw_tasks.fleet.restate_server import prepare as prepare_restate
from joelclaw_tasks.fleet.supervisor import Patience, Supervisor
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

_RESTATE_DOORS = ("restate-ingress", "restate-admin", "restate-node", "restate-service")


@dataclass(frozen=True, slots=True)
class FleetUrls:
    """Where a fleet can be reached. `redis_url` holds the password: it is not part of the repr."""

    home: str
    redis_url: str
    ingress_url: str
    flower_url: str | None
    pid: int
    started_at: str
    restate_ingress_url: str | None = None
    restate_admin_url: str | None = None

    def __repr__(self) -> str:
        return f"FleetUrls({without_password(self.redis_url)}, {self.ingress_url}, {self.flower_url})"

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, password included: for files of mode 0600 and for who asked for it."""
        return asdict(self)


def launch(
    home: Path | None = None,
    *,
    ingress_port: int | None = None,
    with_flower: bool = True,
    with_restate: bool = False,
    view: View,
    on_ready: Callable[[FleetUrls], None],
    env: Mapping[str, str] | None = None,
    patience: Patience | None = None,
) -> bool:
    """Run the fleet until SIGINT or SIGTERM; True when it stopped cleanly.

    `home` None: JOELCLAW_HOME. `ingress_port` None: the setting, 0: a free one. `with_restate`
    may be set by the settings too. Raises FleetError (a fleet runs there already, no Redis or Restate to be
    had, a process that does not start), SettingsError,
    RegistryError, CoreUnreachable or UnsafeRedis (a given REDIS_URL); nothing is left running then.
    """
    env = dict(os.environ if env is None else env)
    place = FleetHome(Settings.load(env, home=home).home)
    with place.hold():
        for name in end_leftovers(place.record_file):
            view.event(name, "left over from a fleet that was killed; ended")
        place.forget_state()  # before the settings are read: a dead fleet's URL must not win over ours
        settings = Settings.load(env, home=place.path, ingress_port=ingress_port)
        Registry.load(settings.registry_dir)
        embedded = None
        wanted = {"ingress": settings.ingress_port}
        if with_flower:
            wanted["flower"] = settings.flower_port
        with_restate = with_restate or settings.with_restate
        if with_restate:
            wanted |= dict.fromkeys(_RESTATE_DOORS, 0)
        if settings.redis_url is None:
            ports = place.choose_ports({"redis": 0, **wanted})
            embedded = prepare(place.redis_dir, ports["redis"])
            redis_url = embedded.url
        else:
            redis_url = settings.redis_url
            _judge(redis_url, view)
            ports = place.choose_ports(wanted)
        restate = _restate(place, settings, ports) if with_restate else None
        urls = FleetUrls(
            home=str(place.path),
            redis_url=redis_url,
            ingress_url=f"http://{reachable(settings.ingress_host)}:{ports['ingress']}",
            flower_url=f"http://127.0.0.1:{ports['flower']}" if with_flower else None,
            pid=os.getpid(),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            restate_ingress_url=restate.ingress_url if restate else None,
            restate_admin_url=restate.admin_url if restate else None,
        )
        specs = fleet_processes(
            redis=embedded,
            ingress_host=settings.ingress_host,
            ingress_port=ports["ingress"],
            flower_port=ports.get("flower"),
            state_dir=place.path,
            restate=restate,
            restate_service_port=ports.get("restate-service"),
            with_watch=bool(settings.watched),
        )
        env |= {"REDIS_URL": redis_url, "JOELCLAW_HOME": str(place.path), "PYTHONUNBUFFERED": "1"}
        if restate is not None:
            env |= {"RESTATE_INGRESS_URL": restate.ingress_url, "RESTATE_ADMIN_URL": restate.admin_url}
        settings = replace(settings, redis_url=redis_url, home=place.path)
        return asyncio.run(
            _run(place, urls, specs, settings, env=env, view=view, on_ready=on_ready, patience=patience)
        )


def _restate(place: FleetHome, settings: Settings, ports: Mapping[str, int]) -> RestateServer:
    if settings.restate_ingress_url is not None:
        raise FleetError(
            "RESTATE_INGRESS_URL names a Restate server, and one of the fleet's own is asked for",
            fix="Leave out RESTATE_INGRESS_URL, or --with-restate and JOELCLAW_WITH_RESTATE.",
        )
    ingress_port, admin_port, node_port, _ = (ports[name] for name in _RESTATE_DOORS)
    return prepare_restate(
        place.restate_dir, ingress_port=ingress_port, admin_port=admin_port, node_port=node_port
    )


def _judge(redis_url: str, view: View) -> None:
    if not require_safe(redis_url).append_only:
        view.event("redis", "WARNING: its append-only file is off: what it accepted is lost when it stops")


async def _run(
    place: FleetHome,
    urls: FleetUrls,
    specs: Sequence[ProcessSpec],
    settings: Settings,
    *,
    env: Mapping[str, str],
    view: View,
    on_ready: Callable[[FleetUrls], None],
    patience: Patience | None,
) -> bool:
    """Supervise the processes, and keep fleet.json true from ready to stop."""
    ready = False

    def publish() -> None:
        if ready:
            running = {
                child.spec.name: {"pid": child.pid, "port": child.spec.port, "restarts": child.restarts}
                for child in supervisor.children
            }
            place.write_state({**urls.to_wire(), "processes": running})

    replaying: asyncio.Task[None] | None = None

    def announce() -> None:
        nonlocal ready, replaying
        ready = True
        replaying = asyncio.create_task(keep_replaying(settings, view))
        publish()
        on_ready(urls)

    supervisor = Supervisor(
        specs,
        logs_dir=place.logs_dir,
        record_file=place.record_file,
        env=env,
        view=view,
        on_change=publish,
        patience=patience,
    )
    try:
        return await supervisor.run(announce)
    finally:
        ready = False
        if replaying is not None:
            replaying.cancel()
        place.forget_state()
