"""joelclaw queue explain, simulate and audit: their envelopes, and what people read."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import JoelclawProcess

NAS = "limit:resource/nas"


def job(job_id: str, family: str = "shop.add", **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": job_id, "queue": "default", "family": family, "handler": "", "lane": f"default|{family}|",
        "payload": json.dumps({"body": ""}), "slack_ms": 300_000,
    }  # fmt: skip
    return Job(**{**fields, **changes})


def run(store: Store, *jobs: Job, at_once: int = 1) -> None:
    """Carry jobs out, so that there is something to measure."""
    store.admit(jobs)
    for _ in range(0, len(jobs), at_once):
        claimed = store.claim(["default"], at_once, "w1").jobs
        time.sleep(0.002)  # a run takes time
        store.complete([one.tag for one in claimed])


def test_explain_answers_the_gate_and_the_estimate(joelclaw: JoelclawProcess, store: Store) -> None:
    store.limit({NAS: 1}, actor="t", reason="r")
    run(store, *(job(f"done{n}", gates=(NAS,)) for n in range(3)))
    store.admit([job(each, gates=(NAS,)) for each in ("a", "b", "c")])
    store.claim(["default"], 1, "w1")

    piped = joelclaw("queue", "explain", "c")

    waits = piped.result["waiting_on"]
    assert (NAS, "limit") == (waits["gate"], waits["kind"])
    assert {"since", "opens_when"} <= set(waits)
    assert piped.result["estimated_start"]["at"] >= piped.result["asked_at"]
    assert "runs of shop.add" in piped.result["estimated_start"]["basis"]
    assert piped.next_commands[0] == "joelclaw queue explain b"


def test_explain_of_a_paused_job_suggests_to_resume(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([job("a b")])
    store.pause("pause:family/shop.add", actor="joel", reason="stock-taking")

    piped = joelclaw("queue", "explain", "a b")

    assert piped.result["summary"] == (
        "it waits at pause:family/shop.add, paused by joel: stock-taking; it may go when somebody resumes it"
    )
    assert piped.next_commands[:2] == [
        "joelclaw queue resume pause:family/shop.add",
        "joelclaw queue timeline 'a b'",
    ]


def test_explain_finds_the_jobs_of_an_event_by_its_id(joelclaw: JoelclawProcess) -> None:
    joelclaw("emit", "content/updated", "-d", '{"path": "a.md"}', "--id", "find-42")

    result = joelclaw("queue", "explain", "find-42").result

    assert result["family"] == "content/updated" if result["kind"] == "job" else len(result["jobs"]) > 1
    assert result["waiting_on"] is None
    assert result["estimated_start"]["at"] is None


def test_explain_of_a_family_sums_up_its_gates(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([job("a"), job("b")])
    store.pause("pause:queue/default", actor="joel", reason="")

    result = joelclaw("queue", "explain", "shop.add").result

    assert result["kind"] == "family"
    assert [(one["gate"], one["jobs"]) for one in result["by_gate"]] == [("pause:queue/default", 2)]
    assert result["waiting_on"]["gate"] == "pause:queue/default"
    assert result["next"]["id"] == "a"


def test_explain_of_nothing_known_is_refused(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("queue", "explain", "nothing")

    assert piped.code == 1
    assert piped.error["code"] == "QUEUE_MESSAGE_MISSING"


def test_people_read_why_and_where_the_time_went(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([job("a")])
    store.pause("pause:family/shop.add", actor="joel", reason="\x1b[2J[bold]no")
    time.sleep(0.01)  # so that its time went somewhere

    seen = joelclaw.on_terminal("queue", "explain", "a")

    assert seen.code == 0
    assert "paused by joel: \\x1b[2J[bold]no" in " ".join(seen.screen.split())
    assert "parked at pause:family/shop.add" in seen.screen
    assert "no worker serves the queue default" in seen.screen


def test_simulate_plays_a_limit_beside_what_is(joelclaw: JoelclawProcess, store: Store) -> None:
    store.limit({NAS: 2}, actor="t", reason="r")
    run(store, *(job(f"done{n}", gates=(NAS,)) for n in range(2)), at_once=2)
    store.admit([job(f"j{n}", gates=(NAS,)) for n in range(20)])
    before = store.snapshot()["by_state"]

    result = joelclaw("queue", "simulate", "--limit", "nas=1", "--arrivals", "shop.add=0.5").result

    assert result["change"] == {"pause": [], "limit": {NAS: 1}, "arrivals": {"shop.add": 0.5}}
    assert result["baseline"]["drained_ms"] < result["changed"]["drained_ms"]
    [family] = result["families"]
    assert family["longer_ms"] > 0
    assert result["error"]["measured_runs"] == 2
    assert before == store.snapshot()["by_state"]


def test_simulate_of_a_pause_says_what_never_starts(joelclaw: JoelclawProcess, store: Store) -> None:
    run(store, job("done"))
    store.admit([job("a"), job("b"), job("c", family="other")])

    result = joelclaw("queue", "simulate", "--pause", "shop.add").result

    assert result["changed"]["drained_ms"] is None
    assert (result["changed"]["is_stuck"], result["changed"]["left"]) == (True, {"shop.add": 2})
    assert result["baseline"]["drained_ms"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        ([], "USAGE", 2),
        (["--limit", "nas"], "USAGE", 2),
        (["--limit", "nas=-1"], "USAGE", 2),
        (["--limit", "nas=1.5"], "USAGE", 2),
        (["--arrivals", "shop.add=inf"], "USAGE", 2),
        (["--pause", "shop.add"], "QUEUE_NOTHING_MEASURED", 1),
        (["--arrivals", "shop.ad=1"], "QUEUE_FAMILY_UNKNOWN", 1),
        (["--limit", "nothing-like-it=1"], "QUEUE_GATE_UNKNOWN", 1),
        (["--pause", "nothing-like-it"], "QUEUE_GATE_UNKNOWN", 1),
    ],
)
def test_simulate_refuses_what_it_cannot_play(
    joelclaw: JoelclawProcess, store: Store, arguments: list[str], code: str, exit_code: int
) -> None:
    store.admit([job("a")])

    piped = joelclaw("queue", "simulate", *arguments)

    assert (piped.error["code"], piped.code) == (code, exit_code)


def test_people_read_the_simulation(joelclaw: JoelclawProcess, store: Store) -> None:
    run(store, job("done"))
    store.admit([job("a")])

    seen = joelclaw.on_terminal("queue", "simulate", "--pause", "shop.add")

    assert "pause pause:family/shop.add" in seen.screen
    assert "never drained: 1 of the jobs that wait now do not start" in seen.screen


def test_audit_of_a_sound_queue_finds_nothing(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([job("a")])

    result = joelclaw("queue", "audit").result

    assert result["violations"] == []
    assert result["looked_at"]["jobs"] == 1


def test_audit_names_what_is_wrong_and_how_to_mend_it(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([job("a")])
    store.client.hincrby("{jc}:counts", "default\nshop.add|2|available", 4)

    [violation] = joelclaw("queue", "audit").result["violations"]
    seen = joelclaw.on_terminal("queue", "audit")

    assert (violation["invariant"], violation["code"]) == ("I7", "COUNT_WRONG")
    assert violation["mend"] == ['HINCRBY {jc}:counts "default\\nshop.add|2|available" -4']
    assert "COUNT_WRONG" in seen.screen
    assert "redis-cli: HINCRBY" in seen.screen


@pytest.mark.parametrize("arguments", [["explain", "a"], ["simulate", "--pause", "a"], ["audit"]])
def test_without_redis_each_says_so(joelclaw_offline: JoelclawProcess, arguments: list[str]) -> None:
    piped = joelclaw_offline("queue", *arguments)

    assert (piped.error["code"], piped.code) == ("REDIS_UNREACHABLE", 3)
