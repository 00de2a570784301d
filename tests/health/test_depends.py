"""A family that depends on a check that is down is held back, and tried when the check is healthy again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from joelclaw_tasks.core.health import Health, Look
from joelclaw_tasks.fleet.observing import health_of, observer_of
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.observer import conftest as observer
from tests.observer.conftest import World, applied, refused

settings, world = observer.settings, observer.world  # fixtures

MINUTE = 60_000


class Dependent:
    """The world of the observer's tests, in which `note` and `pay` (protected) depend on the check nas."""

    def __init__(self, world: World, auto: str) -> None:
        directory = world.settings.registry_dir
        for family in ("note", "pay"):
            file = directory / "events" / f"{family}.json"
            event = json.loads(file.read_text())
            event["handlers"][0]["depends_on"] = ["nas"]
            file.write_text(json.dumps(event))
        checks = {"nas": {"kind": "tcp", "url": "tcp://127.0.0.1:9"}, "web": {"kind": "redis"}}
        (directory / "health.json").write_text(json.dumps({"checks": checks}))
        self.world = world
        self.registry = Registry.load(directory)
        self.settings = Settings(
            redis_url=world.settings.redis_url, registry_dir=directory, home=world.settings.home,
            observer_mode="enforce", observer_auto_families=auto,
        )  # fmt: skip
        self.health = Health(world.store)
        self._looks = 0

    def looks(self, status: str, detail: str = "takes no connection") -> None:
        self._looks += 1
        self.health.keep(Look(f"l{self._looks}", "nas", status, detail, fails=1, passes=1))

    def pass_of_a_minute(self, status: str) -> Any:
        self.world.wait(60)
        self.looks(status)
        return observer_of(self.world.queue, self.settings, self.registry).make_pass()


@pytest.fixture
def dependent(world: World) -> Dependent:
    return Dependent(world, "*")


def test_nothing_starts_while_the_check_is_down_and_one_is_tried_when_it_is_back(dependent) -> None:
    world = dependent.world
    dependent.looks("healthy")
    world.admit("note", 5)
    world.admit("mail", 2)
    world.admit("pay", 1)
    assert [] == applied(dependent.pass_of_a_minute("healthy"))

    assert [("pause", "note")] == applied(dependent.pass_of_a_minute("down"))
    [pause] = world.store.controls()
    assert "health: nas takes no connection" == pause["reason"]
    assert {"note": "observer"} == world.pauses()  # not the others, and not what is protected
    assert {"mail", "pay"} == {each.partition("-")[0] for each in world.work()}

    # It stays so for as long as it is down, and no longer than a pause after nobody looks.
    acts = [
        applied(dependent.pass_of_a_minute("down")) for _ in range(4)
    ]  # the history goes by Redis's own clock: 10 minutes at most
    assert {"note": "observer"} == world.pauses()
    assert {("pause", "note")} == {act for done in acts for act in done}
    assert 1 == len([done for done in acts if done])
    assert [] == world.work()

    tried: list[Any] = []
    for _ in range(4):
        tried += applied(dependent.pass_of_a_minute("healthy"))
        tried.append(len(world.work()))
    resumed = ("resume", "note")
    assert [resumed, 1, resumed, 4] == [each for each in tried if each]  # one is tried, then all go
    assert {} == world.pauses()


def test_what_may_not_be_acted_on_is_refused_by_the_same_policy(world: World) -> None:
    dependent = Dependent(world, "mail")
    dependent.looks("healthy")
    world.admit("note", 5)

    done = dependent.pass_of_a_minute("down")

    assert ([], ["not_auto"]) == (applied(done), refused(done))
    assert {} == world.pauses()


def test_a_check_that_died_or_that_nobody_looks_at_holds_nothing_back(dependent) -> None:
    world = dependent.world
    dependent.looks("healthy")
    world.admit("note", 5)
    assert [] == applied(dependent.pass_of_a_minute("unknown"))

    dependent.looks("down")
    dependent.world.wait(600)
    assert ["redis"] == [each.name for each in health_of(world.store, dependent.registry)]
    done = observer_of(world.queue, dependent.settings, dependent.registry).make_pass()

    assert [] == applied(done)
    assert {} == world.pauses()


def test_a_family_without_work_is_left_alone(dependent) -> None:
    dependent.looks("healthy")

    assert [] == applied(dependent.pass_of_a_minute("down"))
    assert {} == dependent.world.pauses()
