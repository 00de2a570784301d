"""The steering commands: what a person types, is asked, and is told."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, JoelclawProcess
from tests.cli.test_queue_commands import plain_job
from tests.conftest import wait_until

FAMILY = "shop.tasks.add"


def state(store: Any, id: str) -> str:
    return str(store.inspect(id)["state"])


@pytest.fixture
def jobs(store: Any) -> list[str]:
    """Three waiting jobs of one family, the last of them scheduled."""
    store.admit([plain_job("a"), plain_job("b"), plain_job("due", due_ms=store.now_ms() + 3_600_000)])
    return ["a", "b", "due"]


def test_every_act_says_how_to_take_it_back(joelclaw: JoelclawProcess, store: Any, jobs: list[str]) -> None:
    shed = joelclaw("queue", "shed", FAMILY, "--reason", "too much")
    assert (3, 3, "c1", "shed") == tuple(
        shed.result[name] for name in ("matched", "changed", "control", "verb")
    )
    assert "joelclaw queue undo c1" in shed.next_commands
    assert "held" == state(store, "a")

    undone = joelclaw("queue", "undo")

    assert (3, "c1", "joel@cli") == (
        undone.result["jobs"], undone.result["control"]["id"], undone.result["control"]["undone_by"],
    )  # fmt: skip
    assert ["available", "available", "scheduled"] == [state(store, id) for id in jobs]
    again = joelclaw("queue", "undo", "c1")
    assert (1, "QUEUE_CONTROL_OVER") == (again.code, again.error["code"])
    assert "QUEUE_CONTROL_UNKNOWN" == joelclaw("queue", "undo").error["code"]


def test_a_dry_run_counts_and_shows_and_changes_nothing(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str]
) -> None:
    for verb in (["cancel"], ["shed"], ["priority", "-s", "100"]):
        result = joelclaw("queue", *verb, "--where", "state=available", "--dry-run").result
        assert (2, 0, None, True) == tuple(
            result[name] for name in ("matched", "changed", "control", "dry_run")
        )
        assert {"a", "b"} == {each["id"] for each in result["sample"]}
    assert [] == store.acts()
    assert "available" == state(store, "a")


def test_jobs_are_cancelled_retried_shed_and_brought_back(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str]
) -> None:
    assert 1 == joelclaw("queue", "retry", "due").result["changed"]
    assert "available" == state(store, "due")
    assert 2 == joelclaw("queue", "shed", "-w", "id!=a", "--ttl", "1h").result["changed"]
    assert 1 == joelclaw("queue", "unshed", "b").result["changed"]
    assert 2 == joelclaw("queue", "cancel", FAMILY, "-w", "state!=held").result["changed"]
    assert "held" == state(store, "due")


def test_a_priority_is_given_by_name_or_score(joelclaw: JoelclawProcess, store: Any, jobs: list[str]) -> None:
    assert 1 == joelclaw("queue", "priority", "a", "-s", "P0").result["changed"]
    assert "P0" == store.inspect("a")["priority"]
    assert 2 == joelclaw("queue", "priority", FAMILY, "-s", "0", "--ttl", "2h").result["changed"] - 1
    assert "priority" == joelclaw("queue", "control", "status").result["control"]["active"][0]["verb"]


def test_a_limit_and_a_rate_are_set_and_undone(joelclaw: JoelclawProcess, store: Any) -> None:
    from joelclaw_tasks.core.rate import Rate

    store.limit({"limit:resource/nas": 2}, actor="registry", reason="")
    store.rate({"rate:handler/x": Rate(1, 1_000)}, actor="registry", reason="")
    limit = joelclaw("queue", "limit", "nas", "5", "--ttl", "2h").result
    assert ("limit:resource/nas", "5") == (limit["gate"], limit["control"]["value"])
    rate = joelclaw("queue", "rate", "handler/x", "100/10s", "--burst", "20").result
    assert "100 10000 20" == rate["control"]["value"]
    assert joelclaw("queue", "limit", "nas", "5", "--ttl", "2h").result["control"]
    joelclaw("queue", "undo", rate["control"]["id"])
    assert joelclaw("queue", "limit", "nas", "none").result["control"]["value"] == ""


def test_a_drain_says_what_is_left_and_goes_on(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str]
) -> None:
    joelclaw("queue", "pause", FAMILY, "--no-ttl")
    drained = joelclaw("queue", "drain", FAMILY, "--no-wait", "--ttl", "10m")
    assert (False, 2, 0) == tuple(drained.result[name] for name in ("done", "waiting", "running"))
    assert 2 == len(store.claim(["default"], 9, "w").jobs)
    store.complete(store.held_by("w"))
    assert joelclaw("queue", "drain", FAMILY).result["done"]


def test_pauses_are_chosen_by_filter(joelclaw: JoelclawProcess, store: Any, jobs: list[str]) -> None:
    assert [f"pause:family/{FAMILY}"] == joelclaw("queue", "pause", "-w", "id=a", "--dry-run").result["gates"]
    assert [] == store.acts()
    assert 1 == len(joelclaw("queue", "pause", "-w", "id=a").result["controls"])
    assert 1 == len(joelclaw("queue", "resume", "-w", "actor=joel@cli").result["controls"])
    assert [] == store.controls()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["shed"], "QUEUE_FILTER_INVALID"), (["shed", "-w", "colour=red"], "QUEUE_FILTER_INVALID"),
        (["shed", "a", "--ttl", "5s"], "QUEUE_CONTROL_INVALID_TTL"),
        (["priority", "a", "-s", "P9"], "QUEUE_PRIORITY_INVALID"),
        (["priority", "a", "-s", "101"], "QUEUE_PRIORITY_INVALID"),
        (["limit", "nas", "many"], "USAGE"), (["rate", "x", "5"], "USAGE"), (["pause"], "USAGE"),
        (["rate", "x", "5/soon"], "USAGE"), (["pause", "a", "-w", "id=a"], "USAGE"),
        (["pause", "a", "--dry-run"], "USAGE"),
    ],
)  # fmt: skip
def test_what_is_typed_wrongly_ends_with_2_and_changes_nothing(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str], arguments: list[str], code: str
) -> None:
    piped = joelclaw("queue", *arguments)
    assert (2, code) == (piped.code, piped.error["code"])
    assert [] == store.acts()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["shed", "nobody"], "QUEUE_TARGET_UNKNOWN"), (["limit", "nass", "3"], "QUEUE_GATE_UNKNOWN"),
        (["rate", "nas", "3/1s"], "QUEUE_GATE_UNKNOWN"), (["drain", "nobody"], "QUEUE_GATE_UNKNOWN"),
        (["unshed", "a"], "JOB_WRONG_STATE"), (["undo", "c9"], "QUEUE_CONTROL_UNKNOWN"),
    ],
)  # fmt: skip
def test_what_does_not_exist_or_apply_is_an_error(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str], arguments: list[str], code: str
) -> None:
    piped = joelclaw("queue", *arguments)
    assert (1, code) == (piped.code, piped.error["code"])
    assert [] == store.controls()


def test_the_observer_may_not_undo_a_person(joelclaw: JoelclawProcess, store: Any) -> None:
    joelclaw("queue", "pause", "default")
    piped = joelclaw("queue", "resume", "default", "--actor", "observer")
    assert (1, "HELD_BY_PERSON") == (piped.code, piped.error["code"])


def on_a_terminal(joelclaw: JoelclawProcess, answer: str, *arguments: str) -> tuple[int, str]:
    """Run with everything on one terminal, and answer when asked; the exit code and the screen."""
    ours, theirs = pty.openpty()
    env = joelclaw.env | {"TERM": "xterm-256color", "NO_COLOR": "1"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=joelclaw.home
    )
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 20)[0]:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # Linux says EIO when the program has closed its end
            break
        if answer and b"[y/N]" in seen + piece and b"[y/N]" not in seen:
            os.write(ours, answer.encode())
        seen += piece
    os.close(ours)
    return process.wait(20), seen.decode()


def test_on_a_terminal_a_person_is_asked_before_many_jobs_are_changed(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str]
) -> None:
    code, screen = on_a_terminal(joelclaw, "n\n", "queue", "cancel", FAMILY)
    assert (1, "scheduled") == (code, state(store, "due"))
    assert f"cancel 3 jobs (family/{FAMILY})?" in screen

    code, screen = on_a_terminal(joelclaw, "y\n", "queue", "shed", FAMILY)
    assert (0, "held") == (code, state(store, "due"))
    assert f"shed: 3 of 3 jobs (family/{FAMILY}, c1)" in screen
    code, screen = on_a_terminal(joelclaw, "", "queue", "unshed", FAMILY, "--yes")
    assert (0, "available") == (code, state(store, "a"))
    assert "[y/N]" not in screen
    code, screen = on_a_terminal(joelclaw, "", "queue", "cancel", "a")
    assert 0 == code
    assert "[y/N]" not in screen


def test_ctrl_c_leaves_a_drain_going_and_says_so(
    joelclaw: JoelclawProcess, store: Any, jobs: list[str]
) -> None:
    joelclaw("queue", "pause", FAMILY)
    process = subprocess.Popen(
        [*PROGRAM, "queue", "drain", FAMILY], env=joelclaw.env, cwd=joelclaw.home,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: any(act["verb"] == "drain" for act in store.controls()), "the drain has begun")
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=20)

    assert 130 == process.returncode
    assert "QUEUE_INTERRUPTED" in stdout
    assert "2 waiting" in stdout
    assert ["pause", "drain"] == [act["verb"] for act in store.controls()]


def test_ctrl_c_in_the_middle_of_many_jobs_tells_exactly_what_was_done(
    joelclaw: JoelclawProcess, store: Any
) -> None:
    for start in range(0, 30_000, 1_000):
        store.admit([plain_job(f"j{start + n}") for n in range(1_000)])
    process = subprocess.Popen(
        [*PROGRAM, "queue", "shed", FAMILY], env=joelclaw.env, cwd=joelclaw.home,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def held() -> int:
        return int(store.snapshot()["by_state"]["held"])

    wait_until(held, "the first jobs are in the parking lot", 20)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=20)
    answer = json.loads(stdout)

    assert (130, "QUEUE_INTERRUPTED") == (process.returncode, answer["error"]["code"])
    told = answer["error"]["details"]
    assert held() == told["changed"] == told["matched"]
    assert 0 < told["changed"] < 30_000
    assert f"joelclaw queue undo {told['control']}" in [each["command"] for each in answer["next_actions"]]
    assert told["changed"] == joelclaw("queue", "undo").result["jobs"]
    assert 0 == held()
