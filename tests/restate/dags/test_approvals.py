"""Approvals: asked of people by message and command, answered once, by whoever is first."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from joelclaw_tasks.ingress.presses import Presses
from joelclaw_tasks.restate.runs import ApprovalAnswered, ApprovalUnknown
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.restate.dags.conftest import Fleet, task


def asking(name: str, **fields: Any) -> dict[str, Any]:
    """A plan that asks for `name`, and has an effect of that name when it is approved."""
    gate = {"id": "gate", "type": "approval", "question": f"May {name} go?", **fields}
    return {"name": name, "nodes": [gate, task("go", "gate", data={"name": f"{name} goes"})]}


def asks(fleet: Fleet, run: str) -> None:
    wait_until(lambda: any(one["run"] == run for one in fleet.runs.approvals()), "it asks", 20)


def test_an_approved_run_goes_on_and_keeps_who_answered_and_when(fleet: Fleet):
    before = time.time() * 1_000
    run = fleet.start(asking("approved"))
    asks(fleet, run)
    [listed] = [one for one in fleet.runs.approvals() if one["run"] == run]
    assert ("gate", "May approved go?", "denied") == (
        listed["node"],
        listed["question"],
        listed["on_timeout"],
    )
    assert 0 == fleet.effects["approved goes"]

    answer = fleet.runs.answer(run, "gate", approved=True, by="joel", note="looks good")
    found = fleet.ended(run)
    assert "completed" == found["status"]
    assert 1 == fleet.effects["approved goes"]
    assert answer == found["nodes"]["gate"]["answer"]
    assert (True, "joel", "looks good") == (answer["approved"], answer["by"], answer["note"])
    assert before <= answer["at"] <= time.time() * 1_000
    assert [] == [one for one in fleet.runs.approvals() if one["run"] == run]


def test_a_denied_run_fails_there(fleet: Fleet):
    run = fleet.start(asking("denied"))
    asks(fleet, run)
    fleet.runs.answer(run, "gate", approved=False, by="joel", note="not today")
    found = fleet.ended(run)
    assert ("failed", "gate: denied by joel: not today") == (found["status"], found["reason"])
    assert 0 == fleet.effects["denied goes"]


def test_of_many_answers_at_once_one_counts_and_the_others_are_told_which(fleet: Fleet):
    run = fleet.start(asking("crowd"))
    asks(fleet, run)

    def answer(number: int) -> str:
        try:
            return f"first {fleet.runs.answer(run, 'gate', approved=number % 2 == 0, by=f'p{number}')['by']}"
        except ApprovalAnswered as error:
            return str(error.answer["by"])

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(answer, range(8)))
    [first] = [one for one in said if one.startswith("first ")]
    winner = first.removeprefix("first ")
    assert [winner] * 7 == [one for one in said if one != first]
    assert winner == fleet.ended(run)["nodes"]["gate"]["answer"]["by"]


@pytest.mark.parametrize(
    ("default", "status", "effects"), [("deny", "failed", 0), ("approve", "completed", 1)]
)
def test_without_an_answer_the_default_counts_and_a_late_one_changes_nothing(
    fleet: Fleet, default: str, status: str, effects: int
):
    name = f"late {default}"
    run = fleet.start(asking(name.replace(" ", "-"), timeout_s=0.3, on_timeout=default))
    found = fleet.ended(run)
    assert status == found["status"]
    assert "timeout" == found["nodes"]["gate"]["answer"]["by"]
    with pytest.raises(ApprovalAnswered, match="before, by timeout") as caught:
        fleet.runs.answer(run, "gate", approved=default == "deny", by="joel")
    assert (default == "approve") == caught.value.answer["approved"]
    assert found["nodes"] == fleet.runs.status(run)["nodes"]
    assert effects == fleet.effects[f"{name.replace(' ', '-')} goes"]


def test_what_was_not_asked_cannot_be_answered(fleet: Fleet):
    plan = asking("early")
    plan["nodes"] += [{"id": "later", "type": "approval", "question": "And then?", "depends_on": ["go"]}]
    run = fleet.start(plan)
    asks(fleet, run)
    for node in ("later", "go", "nothing", "../gate"):
        with pytest.raises(ApprovalUnknown):
            fleet.runs.answer(run, node, approved=True, by="joel")
    fleet.runs.cancel(run, by="tester")
    fleet.ended(run)
    with pytest.raises(ApprovalAnswered, match="denied before, by run"):
        fleet.runs.answer(run, "gate", approved=True, by="joel")


def press(fleet: Fleet, message: dict[str, Any], number: int, **settings: Any) -> str:
    """Press a button under a message, as Telegram tells the ingress of it."""
    env = {name: value for name, value in fleet.environment.items() if name.isupper()}
    env = {name: value for name, value in env.items() if name != "DAG_EFFECTS_FILE"}
    presses = Presses.of(Settings.load(env, **settings))
    callback = {
        "id": f"cb{time.monotonic_ns()}", "from": {"id": 7},
        "data": message["keyboard"][number]["callback_data"],
        "message": {"message_id": message["message_id"], "chat": {"id": 42}, "text": message["text"]},
    }  # fmt: skip
    return presses.take(callback)


def test_a_button_answers_once_and_another_press_says_so(fleet: Fleet):
    run = fleet.start(asking("button"))
    wait_until(lambda: any("button asks" in text for text in fleet.bot.texts), "people are told", 20)
    message = dict(next(one for one in fleet.bot.messages if "button asks" in one["text"]))
    assert ["Approve", "Deny"] == [button["text"] for button in message["keyboard"]]
    assert f"joelclaw approvals approve {run} gate" in message["text"]

    away = press(fleet, message, 0, restate_ingress_url="http://127.0.0.1:9")
    assert "not done, press again later" in away
    assert ["Approve", "Deny"] == [button["text"] for button in message["keyboard"]]

    assert "gate is approved" == press(fleet, message, 0)
    found = fleet.ended(run)
    assert ("completed", "telegram:42") == (found["status"], found["nodes"]["gate"]["answer"]["by"])
    assert "not done: gate was approved before, by telegram:42" == press(fleet, message, 1)


def test_the_command_line_lists_answers_and_says_what_was_answered_before(fleet: Fleet):
    run = fleet.start(asking("typed"))
    asks(fleet, run)
    listed = fleet.cli("approvals", "list")
    assert run in [one["run"] for one in listed["result"]["approvals"]]
    approved = fleet.cli("approvals", "approve", run, "gate", "--note", "fine", "--actor", "joel")
    assert ("joel", "fine") == (approved["result"]["answer"]["by"], approved["result"]["answer"]["note"])
    again = fleet.cli("approvals", "deny", run, "gate")
    assert ("APPROVAL_ANSWERED", "joel") == (
        again["error"]["code"], again["error"]["details"]["answer"]["by"],
    )  # fmt: skip
    assert "DAG_UNKNOWN" == fleet.cli("approvals", "deny", "nobody", "gate")["error"]["code"]
    assert "completed" == fleet.ended(run)["status"]
