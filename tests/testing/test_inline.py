"""inline and run_handler: handlers run where the test can see them, and time passes when it says so."""

from __future__ import annotations

import pytest

import joelclaw_tasks
from joelclaw_tasks import testing
from joelclaw_tasks.core.spec import EventSpec, HandlerSpec, RestateSpec
from joelclaw_tasks.errors import CoreUnreachable, PermanentFailure, UnknownEvent, UnknownHandler
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.registry import Registry


@pytest.fixture
def run(registry):
    with testing.inline(registry) as run:
        yield run


def attempts(run, handler):
    return [(one.outcome, one.attempt, one.retry_in_s) for one in run.runs(handler)]


def test_a_handler_is_called_by_its_name(registry, tmp_path):
    handled = testing.run_handler("test.start", {"count": 2}, registry=registry, data_dir=tmp_path)

    assert "followed" == handled.result
    assert [{"number": 0}, {"number": 1}] == [one.data for one in handled.emitted("test/done")]
    assert ["followed"] == [one.text for one in handled.notified()]
    assert [] == handled.runs()  # what it emits is checked, and not run


def test_what_the_handler_raises_is_what_the_test_gets(registry):
    with pytest.raises(PermanentFailure, match="no such order"):
        testing.run_handler("test.refused", {}, registry=registry)


def test_a_handler_may_be_a_function_that_no_registry_knows(registry):
    def handler(event, deps):
        return event.name, event.data["n"], event.at_ms == deps.now().timestamp() * 1000

    assert ("a/b", 1, True) == testing.run_handler(handler, {"n": 1}, event="a/b", registry=registry).result


def test_a_handler_with_the_wrong_name_or_event_is_refused(registry):
    with pytest.raises(UnknownHandler, match=r"test\.start"):
        testing.run_handler("test.strat", {}, registry=registry)
    with pytest.raises(UnknownEvent):
        testing.run_handler(lambda _, deps: deps.emit("no/such", {}), {}, registry=registry)


def test_emitted_events_run_their_handlers_in_order(run):
    receipt = run.emit("test/start", {"count": 2})

    assert ["admitted"] == [job.decision for job in receipt.jobs]
    assert ["test.start", "test.done", "test.done"] == [one.handler for one in run.runs()]
    assert [None, 0, 1] == [one.data.get("number") for one in run.runs()]
    assert {"number": 1} == run.assert_completed("test.done", {"number": 1}).result["seen"]


def test_a_handler_of_batches_gets_a_list(run):
    run.emit("test/heap", {"n": 1})
    assert 1 == run.assert_completed("test.heap").result


def test_the_public_emit_runs_here_and_only_here(registry):
    with testing.inline(registry) as run:
        joelclaw_tasks.emit("test/done", {"by": "the app"})
        joelclaw_tasks.emit_many([NewEvent("test/done", {"by": "many"})])
    assert ["the app", "many"] == [one.data["by"] for one in run.runs()]
    with pytest.raises(CoreUnreachable):
        joelclaw_tasks.emit("content/updated", {"path": "a.md"})
    assert 2 == len(run.emitted())


def test_an_event_is_checked_as_in_production(run):
    with pytest.raises(UnknownEvent, match="test/done"):
        run.emit("test/dune", {})
    run.emit("test/done", {}, id="one")
    assert ["duplicate"] == [job.decision for job in run.emit("test/done", {}, id="one").jobs]
    assert 1 == len(run.runs())


def test_a_delayed_event_waits_until_its_time(run):
    receipt = run.emit("test/done", {}, delay_s=3600)
    assert ["scheduled"] == [job.decision for job in receipt.jobs]

    run.advance(3599)
    assert [] == run.runs()
    run.advance(1)
    run.assert_completed("test.done")


def test_a_handler_that_runs_in_restate_calls_nobody_here():
    called = RestateSpec("Mail", "send", mode="call")
    handler = HandlerSpec("mail.send", "restate", "Mail/send", "io", restate=called)
    registry = Registry([EventSpec("mail/received", "A mail came in.", 2, (handler,))])

    with testing.inline(registry) as run:
        run.emit("mail/received", {})

    [one] = run.runs("mail.send")
    assert ("completed", {"restate": "Mail/send", "mode": "call"}) == (one.outcome, one.result)
    with pytest.raises(ValueError, match="runs in Restate"):
        testing.run_handler("mail.send", {}, registry=registry)


def test_a_failed_job_waits_as_its_retry_policy_says(run):
    run.emit("test/broken", {})
    assert [("retried", 1, 10.0)] == attempts(run, "test.broken")

    run.advance(9)
    assert 1 == len(run.runs())
    run.advance(1)
    assert [("retried", 1, 10.0), ("retried", 2, 15.0)] == attempts(run, "test.broken")
    run.advance()
    assert ("discarded", 3, None) == attempts(run, "test.broken")[-1]
    assert "ConnectionError: the shop is closed" == run.assert_discarded("test.broken").error


def test_time_passes_step_by_step(run):
    start = run.clock.now()
    run.emit("test/early", {"open_at": start.timestamp() + 20})
    run.advance(3600)
    assert 3 == run.assert_completed("test.early").attempt
    assert 3600 == (run.clock.now() - start).total_seconds()


def test_a_permanent_failure_is_not_retried(run):
    run.emit("test/refused", {"id": 7})
    assert 1 == run.assert_discarded("test.refused", {"id": 7}, error="no such order").attempt


def test_a_job_that_failed_for_good_fails_the_test_unless_it_was_expected(registry):
    expected = pytest.raises(AssertionError, match=r"test\.refused.* PermanentFailure: no such order")
    with expected, testing.inline(registry) as run:
        run.emit("test/refused", {})


def test_an_error_of_the_test_is_not_hidden_by_discarded_jobs(registry):
    def fails() -> None:
        with testing.inline(registry) as run:
            run.emit("test/refused", {})
            raise KeyError

    with pytest.raises(KeyError):
        fails()


def test_handlers_that_emit_each_other_for_ever_are_stopped(registry):
    with pytest.raises(AssertionError, match="emit each other"), testing.inline(registry) as run:
        run.emit("test/echo", {})


def test_assertions_say_what_happened_instead(run):
    run.emit("test/done", {"id": 7, "path": "a.md"})

    assert 7 == run.assert_emitted("test/done", {"path": "a.md"}, times=1).data["id"]
    run.assert_not_emitted("test/done", {"path": "b.md"})
    run.assert_not_emitted("test/start")
    for call, text in [
        (lambda: run.assert_emitted("test/done", {"id": 8}), "id is 7, not 8"),
        (lambda: run.assert_emitted("test/done", {"size": 8}), "no size"),
        (lambda: run.assert_emitted("test/start"), r"what was emitted:\n  test/done \{'id': 7"),
        (lambda: run.assert_emitted("test/done", times=2), "1 times, not 2"),
        (lambda: run.assert_not_emitted("test/done"), "'test/done' was emitted"),
        (lambda: run.assert_completed("test.start"), r"test\.done \{'id'.* completed in attempt 1"),
        (lambda: run.assert_discarded("test.done"), "no job of 'test.done' was discarded"),
    ]:
        with pytest.raises(AssertionError, match=text):
            call()


def test_the_time_may_start_anywhere(registry):
    noon = testing.Clock(joelclaw_tasks.testing.Clock().now().replace(year=2030, hour=12))
    with testing.inline(registry, clock=noon) as run:
        run.emit("test/done", {})
    assert run.runs()[0].result["at"].startswith("2030-")
