"""Workflow runs: history per workflow and branch, and word when the outcome changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers.github import record_run
from joelclaw_tasks.handlers.world import World
from tests.handlers.conftest import Recorder

Record = Callable[..., dict[str, Any]]


def _data(number: int, conclusion: str | None = "success", **more: Any) -> dict[str, Any]:
    return {
        "action": "completed",
        "deliveryId": f"d-{number}",
        "runId": 7_000_000 + number,
        "runNumber": number,
        "runAttempt": 1,
        "workflowId": 5,
        "workflowName": "CI",
        "event": "push",
        "status": "completed",
        "conclusion": conclusion,
        "htmlUrl": f"https://github.com/acme/site/actions/runs/{number}",
        "branch": "main",
        "headSha": "abc",
        "actorLogin": "alice",
        "repository": "acme/site",
        "headRepository": "acme/site",
        "createdAt": "2026-03-01T12:00:00Z",
        "updatedAt": f"2026-03-01T12:{number % 60:02}:00Z",
        **more,
    }


@pytest.fixture
def record(world: World, event: Callable[..., Event]) -> Record:
    def record(number: int, conclusion: str | None = "success", **more: Any) -> dict[str, Any]:
        return record_run(event("github/workflow_run.completed", _data(number, conclusion, **more)), world)

    return record


def _history(data_dir: Path) -> dict[str, Any]:
    (path,) = (data_dir / "github").glob("*.json")
    return json.loads(path.read_text())


def test_a_run_is_recorded_with_rate_and_streak(record: Record, tmp_path: Path) -> None:
    record(1, "failure")
    record(2)
    result = record(3)

    assert {"outcome": "success", "length": 2, "before": 1} == result["streak"]
    assert 0.6667 == result["success_rate"]
    assert [1, 2, 3] == [run["run_number"] for run in _history(tmp_path)["runs"]]


def test_the_same_run_delivered_again_changes_nothing(
    record: Record, recorder: Recorder, tmp_path: Path
) -> None:
    record(1)
    first = record(2, "failure")
    before = _history(tmp_path)

    again = record(2, "failure", deliveryId="another")

    assert first | {"recorded": False, "changed": False} == again
    assert before == _history(tmp_path)
    assert 1 == len(recorder.told)


def test_another_attempt_of_a_run_is_another_run(record: Record) -> None:
    record(1, "failure")

    result = record(1, "success", runAttempt=2)

    assert (2, True) == (result["run_count"], result["changed"])


def test_only_a_change_between_success_and_failure_is_told(record: Record, recorder: Recorder) -> None:
    conclusions = [
        "success",
        "cancelled",
        "success",
        "failure",
        "skipped",
        "timed_out",
        "neutral",
        "success",
        None,
    ]
    for number, conclusion in enumerate(conclusions, 1):
        record(number, conclusion)

    runs = "https://github.com/acme/site/actions/runs"
    assert [
        f"CI on acme/site main fails after 2 successes. Run 4 by alice: {runs}/4",
        f"CI on acme/site main works again after 2 failures. Run 8 by alice: {runs}/8",
    ] == [told["text"] for told in recorder.told]
    assert ["warning", "info"] == [told["severity"] for told in recorder.told]


@pytest.mark.parametrize("conclusion", ["success", "failure", "cancelled"])
def test_the_first_run_of_a_workflow_is_no_change(
    record: Record, recorder: Recorder, conclusion: str
) -> None:
    record(1, conclusion)

    assert [] == recorder.told


def test_a_late_finish_of_an_older_run_does_not_speak_for_the_branch(
    record: Record, recorder: Recorder
) -> None:
    record(1)
    record(3)
    result = record(2, "failure", updatedAt="2026-03-01T13:00:00Z")

    assert ([], {"outcome": "success", "length": 1, "before": 1}) == (recorder.told, result["streak"])


def test_the_history_is_the_same_in_whatever_order_runs_arrive(
    world: World, event: Callable[..., Event], tmp_path: Path
) -> None:
    histories = []
    for number, order in enumerate(
        itertools.permutations([(1, "success"), (2, "failure"), (3, "cancelled"), (4, "success")])
    ):
        recorder = Recorder()
        each = World(
            data_dir=tmp_path / str(number), emit=recorder.emit, notify=recorder.notify, http=world.http
        )
        for run in order:
            record_run(event("github/workflow_run.completed", _data(*run)), each)
        histories.append(
            {name: value for name, value in _history(each.data_dir).items() if name != "announced"}
        )

    assert [histories[0]] * 24 == histories


def test_branches_workflows_repositories_and_forks_are_kept_apart(record: Record, recorder: Recorder) -> None:
    record(1)
    apart = [
        {"branch": "dev"},
        {"workflowName": "Deploy"},
        {"repository": "acme/other", "headRepository": "acme/other"},
        {"headRepository": "mallory/site"},
        {"branch": None},
    ]
    for more in apart:
        assert 1 == record(2, "failure", **more)["run_count"]

    assert [] == recorder.told


def test_a_history_holds_the_newest_hundred_runs(record: Record, tmp_path: Path) -> None:
    for number in range(2, 105):
        result = record(number)
    late = record(1, "failure")

    assert 100 == result["run_count"]
    assert (False, 1.0) == (late["recorded"], late["success_rate"])
    assert list(range(5, 105)) == [run["run_number"] for run in _history(tmp_path)["runs"]]


def test_a_crash_before_the_notification_repeats_it_and_a_crash_after_does_not_lose_the_run(
    world: World, event: Callable[..., Event], recorder: Recorder, tmp_path: Path
) -> None:
    def broken(text: str, *, cause: str, severity: str = "info") -> None:
        raise ConnectionError("no sink")

    crashing = World(data_dir=tmp_path, emit=recorder.emit, notify=broken, http=world.http)
    record_run(event("github/workflow_run.completed", _data(1)), world)
    failing = event("github/workflow_run.completed", _data(2, "failure"))
    with pytest.raises(ConnectionError):
        record_run(failing, crashing)

    result = record_run(failing, world)

    assert (False, True, 2, 1) == (
        result["recorded"],
        result["changed"],
        result["run_count"],
        len(recorder.told),
    )
    assert not record_run(failing, world)["changed"]
    assert 1 == len(recorder.told)


def test_text_from_outside_stays_on_one_line(record: Record, recorder: Recorder) -> None:
    name = "CI\n\x1b[31mall fine\u202e"
    record(1, workflowName=name)
    record(2, "failure", workflowName=name)

    (told,) = recorder.told
    assert told["text"].startswith("CI [31mall fine on acme/site main fails after 1 success.")


def test_a_workflow_without_a_name_is_known_by_its_number(record: Record) -> None:
    assert "workflow 5" == record(1, workflowName="")["workflow"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"runId": None},
        {"runId": True},
        {"runId": [1]},
        {"repository": None},
        {"repository": 5},
        {"workflowName": " ", "workflowId": None},
        {"runNumber": "7"},
        {"runNumber": -1},
        {"runAttempt": 1.5},
        {"conclusion": 5},
        {"branch": {}},
    ],
)
def test_data_that_cannot_be_a_run_is_refused_and_nothing_is_written(
    record: Record, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(PermanentFailure, match=next(iter(wrong))):
        record(1, **wrong)

    assert [] == list(tmp_path.rglob("*.json"))
