"""joelclaw health against a real Redis: what it says, with which exit code, to programs and to people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.core.health import Health, Look
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.pulse_checks import pulse_checks
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.cli.conftest import JoelclawProcess

ROOT = Path(__file__).parents[2]
MINUTE, DAY = 60_000, 86_400_000
SECRET = "hunter2-of-somebody"


class Kept:
    """Looks of the past: one a minute, the last one now."""

    def __init__(self, redis_url: str) -> None:
        self.at = 0
        self.store = Store.connect(Settings(redis_url=redis_url), now_ms=lambda: self.at)
        self.now_ms = Store.connect(Settings(redis_url=redis_url)).now_ms()

    def looks(self, check: str, *statuses: str, ended_ms: int = 0) -> None:
        for ago, status in zip(range(len(statuses) - 1, -1, -1), statuses, strict=True):
            self.at = self.now_ms - ended_ms - ago * MINUTE
            look = Look(f"{check}-{self.at}", check, status, f"says {status}", 12.5)
            Health(self.store).keep(look)


@pytest.fixture
def kept(redis_url: str) -> Iterator[Kept]:
    kept = Kept(redis_url)
    yield kept
    kept.store.client.close()


@pytest.fixture
def joelclaw(redis_url: str, tmp_path: Path) -> JoelclawProcess:
    registry = tmp_path / "registry"
    (registry / "events").mkdir(parents=True)
    name = "discovery-noted.json"
    (registry / "events" / name).write_text((ROOT / "registry/events" / name).read_text())
    checks = {
        "redis": {"kind": "redis"},
        "nas": {"kind": "tcp", "url": "tcp://127.0.0.1:9"},
        "search": {"kind": "http", "url_env": "SEARCH_URL"},
    }
    (registry / "health.json").write_text(json.dumps({"checks": checks}))
    process = JoelclawProcess(tmp_path, redis_url)
    process.env["JOELCLAW_REGISTRY_DIR"] = str(registry)
    return process


def test_all_well_is_exit_code_0_and_what_is_not_configured_is_off(joelclaw, kept) -> None:
    kept.looks("redis", "healthy")
    kept.looks("nas", "healthy", "healthy")

    piped = joelclaw("health")

    assert 0 == piped.code
    assert "healthy" == piped.result["state"]
    assert {"redis": "healthy", "nas": "healthy", "search": "off"} == {
        each["check"]: each["state"] for each in piped.result["checks"]
    }
    assert "SEARCH_URL is not set" == piped.result["checks"][2]["detail"]
    assert 12.5 == piped.result["checks"][0]["latency_ms"]


@pytest.mark.parametrize(
    ("looks", "code", "error"),
    [
        (("healthy", "degraded", "degraded"), 4, "HEALTH_DEGRADED"),
        (("healthy", "down", "down"), 5, "HEALTH_DOWN"),
        (("healthy", "unknown", "unknown"), 6, "HEALTH_UNKNOWN"),
    ],
)
def test_the_worst_state_is_the_exit_code(joelclaw, kept, looks, code, error) -> None:
    kept.looks("redis", "healthy")
    kept.looks("nas", *looks)

    piped = joelclaw("health", "--json")

    assert (code, error) == (piped.code, piped.error["code"])
    assert f"nas says {looks[-1]}" == piped.error["message"]
    assert looks[-1] == piped.error["details"]["state"]
    assert "joelclaw health history nas" == piped.next_commands[0]


def test_one_bad_look_is_shown_and_changes_nothing(joelclaw, kept) -> None:
    kept.looks("redis", "healthy")
    kept.looks("nas", "healthy", "down")

    seen = joelclaw.on_terminal("health")

    assert 0 == seen.code
    assert "says down (down)" in seen.screen


def test_a_pulse_that_stands_still_is_not_health(joelclaw, kept) -> None:
    kept.looks("redis", "healthy", ended_ms=10 * MINUTE)

    piped = joelclaw("health")

    assert (6, "HEALTH_UNKNOWN") == (piped.code, piped.error["code"])
    assert "redis was not looked at since " in piped.error["message"]
    assert "nas was not looked at yet" in piped.error["message"]
    assert "The pulse needs beat and a worker" in piped.envelope["fix"]


def test_without_redis_it_says_so(joelclaw) -> None:
    joelclaw.env["REDIS_URL"] = f"redis://:{SECRET}@127.0.0.1:1/0"

    piped = joelclaw("health")

    assert (3, "REDIS_UNREACHABLE") == (piped.code, piped.error["code"])
    assert SECRET not in json.dumps(piped.envelope)


def test_the_history_of_a_check_names_each_turn_and_the_hours(joelclaw, kept) -> None:
    kept.looks("nas", "healthy", "down", "down", "healthy", "healthy")

    piped = joelclaw("health", "history", "nas")

    assert [("healthy", "says healthy"), ("down", "says down"), ("healthy", "says healthy")] == [
        (turn["state"], turn["detail"]) for turn in piped.result["turns"]
    ]
    assert (5, 2) == tuple(sum(hour[name] for hour in piped.result["hours"]) for name in ("looks", "bad"))
    assert "says down" in joelclaw.on_terminal("health", "history", "nas").screen


def test_a_check_that_does_not_exist_is_refused_with_the_nearest_name(joelclaw, kept) -> None:
    piped = joelclaw("health", "history", "nass")

    assert (1, "HEALTH_CHECK_UNKNOWN") == (piped.code, piped.error["code"])
    assert "no check is named 'nass'; did you mean 'nas'?" == piped.error["message"]


def test_a_report_adds_up_days_and_lists_the_incidents(joelclaw, kept) -> None:
    kept.looks("redis", *["healthy"] * 10)
    kept.looks("nas", "healthy", "healthy", "down", "down", "healthy", "healthy", "healthy")

    piped = joelclaw("health", "report", "--days", "1")

    nas = next(each for each in piped.result["checks"] if each["check"] == "nas")
    assert {"healthy", "degraded", "down", "unknown"} == set(nas["in_state_ms"])
    assert DAY == sum(nas["in_state_ms"].values())
    assert 2 * MINUTE == nas["in_state_ms"]["down"]
    assert pytest.approx(2 / 3, abs=0.05) == nas["uptime"]
    [incident] = nas["incidents"]
    assert ("down", "says down", False) == (incident["worst"], incident["detail"], incident["is_cut"])
    assert 2 * MINUTE == incident["until_at"] - incident["from_at"]
    screen = joelclaw.on_terminal("health", "report", "--days", "1").screen
    assert "says down" in screen
    assert "100 %" in screen


def test_the_doctor_says_what_is_not_healthy_and_that_nobody_looks(kept, redis_url, tmp_path) -> None:
    settings = Settings(redis_url=redis_url, home=tmp_path)
    registry = Registry.load(ROOT / "registry")

    def said(*, fleet_runs: bool = True) -> list[tuple[str, str]]:
        return [
            (each.status, each.detail) for each in pulse_checks(settings, registry, fleet_runs=fleet_runs)
        ]

    assert [] == said()
    kept.looks("redis", "healthy")
    assert [("ok", "all healthy: redis")] == said()
    kept.looks("disk", "healthy", "down", "down")
    assert [("warn", "disk says down")] == said()
    kept.now_ms -= DAY
    kept.store.client.flushall()
    kept.looks("redis", "healthy")
    assert [("warn", "nobody has looked lately")] == said()
    assert [] == said(fleet_runs=False)
