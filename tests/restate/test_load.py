"""What Restate has to do is part of what the observer sees."""

from __future__ import annotations

import json

from joelclaw_tasks.fleet.restate_load import restate_failures, restate_now
from joelclaw_tasks.intelligence.diagnosis.history import RestateFailure
from joelclaw_tasks.intelligence.snapshot import RestateNow
from joelclaw_tasks.restate.client import Target
from joelclaw_tasks.routines.check_process import look_in_time
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.server import free_port
from tests.conftest import wait_until
from tests.restate.conftest import Durable


def settings_of(durable: Durable) -> Settings:
    return Settings(
        restate_ingress_url=durable.server.ingress_url, restate_admin_url=durable.server.admin_url
    )


def test_invocations_that_are_not_over_are_counted_by_what_they_do(durable: Durable) -> None:
    before = restate_now(settings_of(durable))
    assert before is not None
    body = json.dumps({"name": "later", "seconds": 1}).encode()
    sent = [durable.client.send(Target("Effects", "slowly"), body, delay_ms=600_000) for _ in range(3)]

    def scheduled() -> int:
        now = restate_now(settings_of(durable))
        assert now is not None
        return now.scheduled

    wait_until(lambda: scheduled() == before.scheduled + 3, "three more are scheduled", 20)

    for each in sent:
        durable.client.kill(each.invocation_id)
    wait_until(lambda: scheduled() == before.scheduled, "they are gone", 20)


def test_a_server_that_does_not_answer_is_said_so_and_none_is_nothing(durable: Durable) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    assert RestateNow(answers=False) == restate_now(
        Settings(restate_ingress_url=durable.server.ingress_url, restate_admin_url=away)
    )
    assert restate_now(Settings(restate_ingress_url=durable.server.ingress_url)) is None
    assert restate_now(Settings()) is None


def test_what_fails_in_a_service_is_told_with_its_job_and_its_error(durable: Durable) -> None:
    body = json.dumps({"name": "x", "message": "the ledger is closed", "code": 409}).encode()
    sent = durable.client.send(Target("Effects", "refuse"), body, idempotency_key="job-of-a-diagnosis")

    def found() -> list[RestateFailure]:
        failures = restate_failures(settings_of(durable), {"Effects", "it's"})
        return [each for each in failures if each.id == sent.invocation_id]

    wait_until(lambda: bool(found()) and found()[0].status == "failed", "it has failed", 20)

    [failure] = found()
    assert ("Effects/refuse", "job-of-a-diagnosis") == (failure.target, failure.job)
    assert "the ledger is closed" in failure.error
    assert [] == restate_failures(settings_of(durable), {"Tally' OR '1'='1"})
    assert [] == restate_failures(settings_of(durable), ())


def test_failures_of_a_server_that_does_not_answer_are_none() -> None:
    away = f"http://127.0.0.1:{free_port()}"

    assert [] == restate_failures(Settings(restate_ingress_url=away, restate_admin_url=away), {"Effects"})
    assert [] == restate_failures(Settings(), {"Effects"})


def test_the_health_pulse_asks_how_much_waits(durable: Durable) -> None:
    asked = {"kind": "restate", "url": durable.server.admin_url, "timeout_s": 5, "most_waiting": 1_000}

    found = look_in_time(asked)

    assert "healthy" == found.status, found
    assert "invocations wait" in found.detail
