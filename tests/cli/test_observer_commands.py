"""joelclaw queue observe, observer history and observer undo against a real Redis."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.passes import Passes
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.fleet.observing import observer_of
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.cli.conftest import JoelclawProcess, admit_content

FAMILY = "content/updated"


@pytest.fixture
def failing(store: Store) -> Store:
    """Ten jobs of a family, of which six have failed."""
    admit_content(store, 10)
    for job in store.claim(["default"], 6, "w").jobs:
        store.discard(job.tag, "ConnectionError: the disks are away")
    return store


def make_pass(store: Store, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url, observer_mode="enforce", observer_auto_families=FAMILY)
    observer_of(Queue(store, settings), settings, Registry.load(settings.registry_dir)).make_pass()


def test_observe_shows_what_would_be_done_and_changes_nothing(
    joelclaw: JoelclawProcess, failing: Store
) -> None:
    before = {key: failing.client.dump(key) for key in failing.client.keys("*")}
    joelclaw.env |= {"QUEUE_OBSERVER_MODE": "enforce", "QUEUE_OBSERVER_AUTO_FAMILIES": "content"}

    seen = joelclaw("queue", "observe")
    screen = joelclaw.on_terminal("queue", "observe").screen

    [verdict] = seen.result["decision"]["verdicts"]
    assert ("pause", FAMILY, "dry_run") == (
        verdict["action"]["kind"], verdict["action"]["family"], verdict["outcome"],
    )  # fmt: skip
    assert ("dry-run", "enforce") == (seen.result["mode"], seen.result["configured"]["mode"])
    assert "6 of the last 6 runs of content.validate failed" in verdict["action"]["reason"]
    assert "would be done" in screen
    assert before == {key: failing.client.dump(key) for key in failing.client.keys("*")}


def test_observe_says_why_something_would_not_be_done(joelclaw: JoelclawProcess, failing: Store) -> None:
    [verdict] = joelclaw("queue", "observe").result["decision"]["verdicts"]

    assert ("refused", "not_auto") == (verdict["outcome"], verdict["reason"])
    assert "refused not_auto" in joelclaw.on_terminal("queue", "observe").screen


def test_what_a_pass_did_is_in_the_history_and_can_be_taken_back(
    joelclaw: JoelclawProcess, failing: Store, redis_url: str
) -> None:
    make_pass(failing, redis_url)

    told = joelclaw("observer", "history")
    [record] = told.result["passes"]
    assert (1, "enforce", "static") == (record["number"], record["status"], record["operator"])
    assert ("applied", "c1") == (record["verdicts"][0]["outcome"], record["verdicts"][0]["control"])
    assert len(record["digest"]) == 16
    assert "joelclaw observer undo p1" == told.next_commands[0]
    assert "pause content/updated for 5 min" in joelclaw.on_terminal("observer", "history").screen

    undone = joelclaw("observer", "undo", "p1", "--reason", "a drill")
    assert ["c1"] == [each["control"]["id"] for each in undone.result["undone"]]
    assert [] == failing.controls()
    again = joelclaw("observer", "undo", "p1")
    assert (1, "QUEUE_CONTROL_OVER") == (again.code, again.error["code"])
    [verdict] = joelclaw("queue", "observe").result["decision"]["verdicts"]
    assert "noop" == verdict["action"]["kind"]  # failures from before are no news


@pytest.mark.parametrize("id", ["p7", "c99", "nonsense"])
def test_an_id_that_is_none_of_the_observer_is_refused(
    joelclaw: JoelclawProcess, store: Store, id: str
) -> None:
    store.pause("pause:queue/default", actor="joel", reason="")

    answer = joelclaw("observer", "undo", id)

    assert (1, "OBSERVER_PASS_UNKNOWN") == (answer.code, answer.error["code"])
    assert ["c1"] == [act["id"] for act in store.controls()]


def test_what_a_person_did_is_not_undone_as_the_observers(joelclaw: JoelclawProcess, store: Store) -> None:
    store.pause("pause:queue/default", actor="joel", reason="")

    assert "OBSERVER_PASS_UNKNOWN" == joelclaw("observer", "undo", "c1").error["code"]


def test_an_observer_that_did_nothing_says_so(joelclaw: JoelclawProcess, store: Store) -> None:
    assert [] == joelclaw("observer", "history").result["passes"]
    assert "has not proposed anything" in joelclaw.on_terminal("observer", "history").screen
    assert [] == Passes(store).recent()


def test_a_mode_that_is_none_is_refused(joelclaw: JoelclawProcess) -> None:
    joelclaw.env["QUEUE_OBSERVER_MODE"] = "on"

    error = joelclaw("queue", "observe").error

    assert "QUEUE_OBSERVER_MODE must be off, dry-run or enforce" in error["message"]
