"""From what looks find to what people are told; and what happens when nobody looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.fleet.pulse_tasks import pulse_entries
from joelclaw_tasks.fleet.pulse_watch import PulseWatch
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.finding import Finding
from joelclaw_tasks.routines.pulse import Pulse, stand_still
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
SHIPPED = Registry.load(ROOT / "registry")
MINUTE = 60_000
WELL, ILL = Finding("healthy", "answers 200", 3.0), Finding("down", "answers 503", 3.0)
SLOW = Finding("degraded", "answers 200, but only after 900 ms", 900.0)


class Desk:
    """A pulse on the test's clock, with a console that people read."""

    def __init__(self, redis_url: str, home: Path) -> None:
        self.clock = Clock(datetime(2026, 3, 2, 12, tzinfo=UTC))
        settings = Settings(redis_url=redis_url, home=home)
        self.store = Store.connect(settings, now_ms=self.clock.now_ms)
        self.notifier = Notifier.of(settings, self.store)
        self.pulse = Pulse(settings, SHIPPED, self.store, self.notifier, {})

    def looks(self, *findings: Finding, check: str = "typesense") -> None:
        for finding in findings:
            self.clock.move_to(self.clock.now_ms() + MINUTE)
            self.pulse.keep(SHIPPED.checks[check], f"{check}-{self.clock.now_ms()}", finding)

    def told(self) -> list[tuple[str, str, str, str]]:
        """(what became of it, change, severity, text), the oldest first."""
        return [
            (entry["word"], entry["note"]["change"], entry["note"]["severity"], entry["note"]["text"])
            for entry in reversed(self.notifier.notices.log(100))
        ]


@pytest.fixture
def desk(redis_url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(redis_url, tmp_path)
    yield desk
    desk.store.client.close()


def test_people_hear_of_each_change_of_state_once(desk: Desk) -> None:
    desk.looks(*[WELL] * 3, *[SLOW] * 5, *[ILL] * 5, *[WELL] * 5)

    assert [
        ("told", "opened", "warning", "Typesense answers 200, but only after 900 ms."),
        ("told", "changed", "error", "Typesense answers 503."),
    ] == desk.told()[:2]
    assert ("resolved", "info", "Typesense is well again.") == desk.told()[2][1:]
    assert 3 == len(desk.told())


def test_what_is_well_from_the_start_or_fails_once_is_no_news(desk: Desk) -> None:
    desk.looks(WELL, ILL, WELL, ILL, WELL)

    assert [] == desk.told()


def test_what_flaps_all_day_makes_few_messages(desk: Desk) -> None:
    for _ in range(60):
        desk.looks(ILL, ILL, WELL, WELL)

    assert 2 >= sum(word == "told" for word, *_ in desk.told())


def test_whoever_dies_between_keeping_and_telling_leaves_it_to_the_next_look(desk: Desk, monkeypatch) -> None:
    desk.looks(WELL, ILL)
    monkeypatch.setattr(Pulse, "_tell", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        desk.looks(ILL)
    monkeypatch.undo()

    desk.looks(ILL)

    assert [("told", "opened", "error", "Typesense answers 503.")] == desk.told()


def test_a_check_that_dies_is_told_as_such(desk: Desk) -> None:
    desk.looks(WELL, *[Finding.broken("it was ended by SIGSEGV")] * 2)

    assert [
        ("told", "opened", "warning", "Typesense cannot be checked: it was ended by SIGSEGV.")
    ] == desk.told()


def test_a_night_without_a_fleet_is_no_news(desk: Desk) -> None:
    desk.looks(WELL, WELL)
    desk.clock.move_to(desk.clock.now_ms() + 10 * 60 * MINUTE)
    desk.looks(WELL, WELL)

    assert [] == desk.told()


def test_a_beat_that_is_dead_is_told_once_by_whichever_worker_sees_it(desk: Desk) -> None:
    assert not stand_still(desk.pulse, SHIPPED)  # nothing has ever looked: a fleet that has just begun
    desk.looks(WELL, check="redis")
    desk.looks(WELL, check="beat")
    desk.clock.move_to(desk.clock.now_ms() + 3 * MINUTE)
    assert not stand_still(desk.pulse, SHIPPED)

    for _ in range(5):
        desk.clock.move_to(desk.clock.now_ms() + MINUTE)
        for _worker in range(3):
            stand_still(desk.pulse, SHIPPED)

    assert [("opened", "error", "Beat stands still: nothing was looked at for 7 min.")] == [
        each[1:] for each in desk.told()
    ]
    desk.looks(WELL, check="redis")
    assert not stand_still(desk.pulse, SHIPPED)
    desk.looks(WELL, WELL, check="beat")
    assert ("resolved", "info", "Beat is well again.") == desk.told()[-1][1:]


def test_each_worker_watches_and_ends_when_it_is_asked_to(desk: Desk, redis_url, tmp_path: Path) -> None:
    desk.looks(WELL, check="redis")  # in March 2026, which is long ago by Redis's own clock
    settings = Settings(redis_url=redis_url, home=tmp_path)
    watches = [PulseWatch(settings, SHIPPED, first_after_s=0.0) for _ in range(2)]
    for watch in watches:
        watch.start()

    wait_until(lambda: desk.pulse.health.checks(["beat"]), "a watch has looked")
    for watch in watches:
        watch.stop()
        watch.join(5)

    assert not any(watch.is_alive() for watch in watches)
    beat = desk.pulse.health.checks(["beat"])["beat"]
    assert ("down", True) == (beat.status, beat.detail.startswith("stands still: nothing was looked at for"))


def test_a_look_while_redis_is_away_is_lost_and_no_failure(tmp_path: Path) -> None:
    app = make_app(Settings(redis_url="redis://:hunter2@127.0.0.1:1/0", home=tmp_path), SHIPPED)

    answer = app.tasks["health.disk"].apply(throw=True).get()
    app.close()

    assert ("disk", "lost") == (answer["check"], answer["status"])
    assert "hunter2" not in answer["detail"]


def test_beat_sends_what_is_on_and_a_look_that_comes_late_is_dropped() -> None:
    def entries(settings: Settings | None = None, **env: str) -> dict[str, tuple[float, float]]:
        made = pulse_entries(SHIPPED, settings or Settings(), env)
        return {
            name.removeprefix("health-pulse-"): (each["schedule"], each["options"]["expires"])
            for name, each in made.items()
        }

    always = dict.fromkeys(("redis", "disk", "beat", "workers", "ingress"), (60.0, 55.0))
    # Beat need not have the key of the models: the worker finds out whether there is one.
    always |= {"anthropic": (3_600.0, 3_595.0)}
    assert always == entries()
    assert {*always, "typesense"} == set(entries(TYPESENSE_URL="http://ts:8108"))
    assert {*always, "telegram"} == set(entries(Settings(notify="console,telegram")))


FAULTS = {
    "kind": ({"kind": "htpp", "url": "http://x"}, 'checks.a.kind: must be "redis", "disk", "beat", '),
    "no address": ({"kind": "http"}, "checks.a: kind http needs url or url_env; add it"),
    "two addresses": (
        {"kind": "http", "url": "http://x", "url_env": "X"}, "checks.a: has url and url_env; keep one",
    ),
    "a password": ({"kind": "http", "url": "http://u:p@x"}, "checks.a: url holds a password; use url_env"),
    "no port": ({"kind": "tcp", "url": "tcp://x"}, "checks.a: url must be tcp://host:port"),
    "odd field": (
        {"kind": "redis", "url": "http://x"}, "checks.a: url says nothing for kind redis; remove it",
    ),
    "too dear": (
        {"kind": "anthropic", "every_s": 60},
        "checks.a: every_s (60) is less than 3600, which a paid API is worth",
    ),
    "no time": (
        {"kind": "redis", "timeout_s": 58},
        "checks.a: timeout_s (58) and 5 s to start and end do not fit into every_s (60); lower timeout_s",
    ),
    "a setting": (
        {"kind": "http", "url_env": "JOELCLAW_X"},
        'checks.a.url_env: "JOELCLAW_X" is not a variable; write one such as TYPESENSE_URL',
    ),
    "a typo": (
        {"kind": "redis", "evry_s": 60}, 'checks.a.evry_s: is not a known field; did you mean "every_s"?',
    ),
    "a target": ({"kind": "python", "target": "os.system"}, 'checks.a.target: "os.system" is not a target'),
}  # fmt: skip


def registry_faults(tmp_path: Path, checks: object, event: dict | None = None) -> list[str]:
    from joelclaw_tasks.errors import RegistryError

    (tmp_path / "events").mkdir()
    shipped = json.loads((ROOT / "registry/events/discovery-noted.json").read_text())
    shipped["handlers"][0] |= event or {}
    (tmp_path / "events/discovery-noted.json").write_text(json.dumps(shipped))
    (tmp_path / "health.json").write_text(json.dumps({"checks": checks}))
    with pytest.raises(RegistryError) as error:
        Registry.load(tmp_path)
    return list(error.value.faults)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_health_json_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    check, expected = FAULTS[name]

    [fault] = registry_faults(tmp_path, {"a": check})

    assert f"health.json: {expected}" in fault


def test_every_fault_is_named_at_once_and_so_are_checks_that_nobody_knows(tmp_path: Path) -> None:
    checks = {"Nas!": {"kind": "redis"}, "b": {"kind": "http"}, "nas": {"kind": "redis"}}

    faults = registry_faults(tmp_path, checks, {"depends_on": ["nass"]})

    form = "use 1 to 40 small letters, digits, _ and -, and start with a letter or a digit"
    place = "events/discovery-noted.json: handlers[0].depends_on[0]"
    assert [
        f'health.json: checks.Nas!: "Nas!" is not the name of a check; {form}',
        "health.json: checks.b: kind http needs url or url_env; add it",
        f'{place}: "nass" is no check of health.json; did you mean "nas"?',
    ] == faults


def test_the_shipped_file_has_its_schema_and_without_a_file_redis_is_looked_at(tmp_path: Path) -> None:
    import jsonschema

    from joelclaw_tasks.registry_health import health_schema

    schema = (ROOT / "registry/health.schema.json").read_text()
    assert health_schema() == schema
    jsonschema.validate(json.loads((ROOT / "registry/health.json").read_text()), json.loads(schema))

    assert ["redis"] == list(Registry([]).checks)
    assert Registry([]).version == Registry([], {}, {}).version
    assert Registry([]).version != Registry([], checks={}).version
