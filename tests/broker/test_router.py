"""PriorityRouter: every call of a handler's task gets what the registry says, however it is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stranger_app import add_router
from workers import Site

from joelclaw_tasks.admission import limits_of, rates_of
from joelclaw_tasks.registry import Registry
from tests.conftest import wait_until

EVENT = {
    "name": "mail/received",
    "description": "A mail came in.",
    "priority": "P1",
    "handlers": [
        {
            "name": "mail.send",
            "type": "task",
            "target": "os.path:join",
            "queue": "io",
            "concurrency": [{"limit": 4}, {"limit": 1, "key": "data.to"}],
            "resources": [{"name": "nas", "weight": 2}],
            "rate": [{"limit": 1000, "period_s": 1, "burst": 1000}],
            "share": {"key": "data.to", "weights": {"ann": 3}},
        }
    ],
}
GATES = [
    "limit:handler/mail.send",
    "limit:key/mail.send=ann",
    "limit:resource/nas",
    "rate:handler/mail.send",
]


@pytest.fixture
def registry_dir(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "mail-received.json").write_text(json.dumps(EVENT))
    (tmp_path / "resources.json").write_text(json.dumps({"nas": {"limit": 2, "description": "A disk."}}))
    return tmp_path


@pytest.fixture
def routed(own: Site, registry_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("STRANGER_REGISTRY", str(registry_dir))
    add_router(own.app, str(registry_dir))
    registry = Registry.load(registry_dir)
    own.store.limit(limits_of(registry), actor="test", reason="")
    own.store.rate(rates_of(registry), actor="test", reason="")
    return own


def an_event(**changes) -> dict:
    return {
        "id": "e1",
        "name": "mail/received",
        "source": "test",
        "at_ms": 1,
        "data": {"to": "ann"},
        **changes,
    }


@pytest.mark.parametrize("how", ["delay", "apply_async", "send_task", "signature"])
def test_a_call_of_a_handlers_task_is_admitted_as_the_registry_says(routed: Site, how: str):
    task, args = routed.app.tasks["mail.send"], (an_event(),)
    result = {
        "delay": lambda: task.delay(*args),
        "apply_async": lambda: task.apply_async(args),
        "send_task": lambda: routed.app.send_task("mail.send", args),
        "signature": lambda: task.s(*args).apply_async(),
    }[how]()
    job = routed.job(result.id)
    assert ("io", "mail/received", "mail.send") == (job["queue"], job["family"], job["handler"])
    assert "P1" == job["priority"]
    assert "io|mail.send|=ann%7C=ann" == job["lane"]
    assert GATES == job["gates"]
    assert ({"limit:resource/nas": 2}, "mail.send=ann") == (job["places"], job["share"])


def test_an_explicit_priority_beats_the_registry(routed: Site):
    task = routed.app.tasks["mail.send"]
    assert "P3" == routed.job(task.apply_async((an_event(),), priority=9).id)["priority"]
    assert "P0" == routed.job(task.apply_async((an_event(),), priority=0).id)["priority"]


def test_the_events_own_priority_beats_that_of_its_family(routed: Site):
    result = routed.app.tasks["mail.send"].delay(an_event(priority=3))
    assert "P3" == routed.job(result.id)["priority"]


def test_a_task_that_the_registry_does_not_know_gets_the_default_priority_and_no_gates(routed: Site):
    job = routed.job(routed.add.delay(1, 1).id)
    assert ("P2", "stranger", "add", []) == (job["priority"], job["queue"], job["family"], job["gates"])
    assert "P0" == routed.job(routed.add.apply_async((1, 1), priority=0).id)["priority"]


def test_a_retry_keeps_queue_lane_gates_and_priority(routed: Site):
    routed.start("threads", queues="io,stranger").wait_ready()
    event = routed.app.tasks["mail.send"].delay(an_event(), 1)
    wait_until(lambda: (routed.job(event.id) or {}).get("state") == "retryable", "it waits for its retry")
    job = routed.job(event.id)
    assert ("io", "io|mail.send|=ann%7C=ann", GATES) == (job["queue"], job["lane"], job["gates"])
    assert "P1" == job["priority"]
    plain = routed.flaky.delay(1, 60)
    wait_until(lambda: (routed.job(plain.id) or {}).get("state") == "retryable", "it waits for its retry")
    assert "P2" == routed.job(plain.id)["priority"]
    chosen = routed.flaky.apply_async((1, 60), priority=9)
    wait_until(lambda: (routed.job(chosen.id) or {}).get("state") == "retryable", "it waits for its retry")
    assert "P3" == routed.job(chosen.id)["priority"]


def test_the_limit_of_a_key_holds_and_nothing_is_lost(routed: Site):
    routed.start("threads", queues="io").wait_ready()
    for number in range(30):
        routed.app.tasks["mail.send"].delay(an_event(data={"to": f"person {number % 3}"}))
    routed.wait_idle()
    assert 30 == len(routed.effects("mail"))
    assert {} == routed.states()
    gates = {gate["gate"]: gate["running"] for gate in routed.store.snapshot()["gates"]}
    assert {0} == set(gates.values())


def test_a_bare_call_without_an_envelope_is_admitted_too(routed: Site):
    result = routed.app.send_task("mail.send", ())
    assert "mail/received" == routed.job(result.id)["family"]
