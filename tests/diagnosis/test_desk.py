"""The desk: what is diagnosed without anybody asking, what is paid for once, and what people say of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.diagnoses import HOLD_MS, MOST_DIAGNOSES, Diagnoses
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, UnknownDiagnosis
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.diagnosis.desk import RETRY_MS
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from tests.diagnosis.conftest import HOUR_MS, Clinic, opus_today, said


def wait_ms(clinic: Clinic, milliseconds: int) -> None:
    clinic.world.clock.move_to(clinic.store.now_ms() + milliseconds)


@pytest.fixture
def answering(api: MessagesApi) -> MessagesApi:
    api.rule = lambda _: said()
    return api


# -- triggers -------------------------------------------------------------------------------------


def test_where_nothing_fails_nobody_is_asked_and_nobody_is_told(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.go_well("mail", 3)
    clinic.retry("mail", 7)

    assert clinic.desk.look() is None
    assert (0, []) == (answering.count, clinic.told)


def test_the_eighth_failure_within_two_hours_is_diagnosed_and_told_once(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.retry("mail", 8)

    record = clinic.desk.look()

    assert record is not None
    assert ("d1", "diagnosed", "8 failures within 2 hours") == (record["id"], record["state"], record["why"])
    assert ("handler", "mail.do") == tuple(record["evidence"]["subject"][name] for name in ("kind", "name"))
    [(text, cause, severity)] = clinic.told
    assert text.startswith("Mail fails because the mail server is away. Likely: downstream outage in smtp")
    assert text.endswith("Proposed: Start the mail server. joelclaw diagnosis show d1")
    assert (True, "warning") == (cause.startswith("diagnosis."), severity)
    assert [("accept", "d1"), ("reject", "d1")] == clinic.buttons
    assert clinic.desk.look() is None
    assert (1, 1) == (answering.count, len(clinic.told))


def test_what_failed_before_is_remembered_and_not_read_again(clinic: Clinic, answering: MessagesApi) -> None:
    clinic.retry("mail", 5)
    assert clinic.desk.look() is None
    clinic.store.client.xtrim(clinic.store.keys.transitions, maxlen=0, approximate=False)
    clinic.desk.look()
    clinic.retry("mail", 3)

    record = clinic.desk.look()

    assert record is not None
    assert "8 failures within 2 hours" == record["why"]
    assert 8 == clinic.store.client.zcard(clinic.store.keys.failing)


def test_eight_failures_over_more_than_two_hours_are_none_of_its_business(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.retry("mail", 4)
    wait_ms(clinic, 2 * HOUR_MS)
    clinic.retry("note", 4)

    assert clinic.desk.look() is None


def test_a_signature_that_is_new_is_diagnosed_and_one_that_is_old_is_not(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.fail("note")
    wait_ms(clinic, 3 * HOUR_MS)
    clinic.fail("note")
    clinic.fail("mail", error="KeyError: 'subject'")

    record = clinic.desk.look()

    assert record is not None
    assert ("mail", "nothing has failed like this before") == (
        record["evidence"]["subject"]["family"], record["why"],
    )  # fmt: skip
    assert clinic.desk.look() is None
    assert 1 == answering.count


def test_where_nothing_failed_no_model_is_asked_and_that_may_be_asked_again(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.go_well("mail", 3)
    clinic.desk.diagnoses.suspect("mail")

    record = clinic.desk.look()
    made = clinic.desk.diagnose("mail", actor="joel")

    assert record is not None
    assert ("abstained", False) == (record["state"], record["diagnosis"]["paid"])
    assert record["diagnosis"]["summary"].startswith("Nothing of mail has failed since 20")
    assert (True, 0, []) == (made.is_new, answering.count, clinic.told)


def test_what_the_observer_escalates_is_diagnosed(clinic: Clinic, answering: MessagesApi) -> None:
    clinic.retry("mail", 2)
    for name in ("gone", "mail", "mail"):
        clinic.desk.diagnoses.suspect(name)

    record = clinic.desk.look()

    assert record is not None
    assert "mail" == record["evidence"]["subject"]["name"]
    assert [] == clinic.desk.diagnoses.suspects()
    assert clinic.desk.look() is None


def test_the_fleets_own_tasks_are_not_diagnosed(clinic: Clinic, answering: MessagesApi) -> None:
    clinic.world.admit("joelclaw.diagnose", 9, handler="joelclaw.diagnose", gates=())
    clinic.world.work(9, error="ConnectionError: x")

    assert clinic.desk.look() is None


# -- once -----------------------------------------------------------------------------------------


def test_two_at_once_pay_once(
    clinic: Clinic, client_of: Callable[..., ModelClient], api: MessagesApi, spending: Spending
) -> None:
    api.rule = lambda _: Act(value=said(), after_s=0.3)
    clinic.retry("mail", 8)
    desks = [clinic.desk_of(client_of()) for _ in range(4)]
    found: list[Any] = []
    threads = [threading.Thread(target=lambda desk=desk: found.append(desk.look())) for desk in desks]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert 1 == api.count
    assert (4, 1) == (len(found), sum(each is not None for each in found))
    assert 1 == opus_today(spending).counts["calls"]
    assert ["d1"] == [each["id"] for each in clinic.desk.diagnoses.recent()]


def test_the_same_is_paid_for_again_after_a_day_and_not_before(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.fail("mail")
    clinic.desk.look()

    for wait, expected in ((HOUR_MS, 1), (HOLD_MS - HOUR_MS - 1, 1), (1, 2)):
        wait_ms(clinic, wait)
        made = clinic.desk.diagnose("mail", actor="joel")
        assert (f"d{expected}", expected) == (made.record["id"], answering.count), wait


def test_what_was_paid_for_as_a_retry_is_not_paid_for_again_when_it_is_dead(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.retry("mail", 8)
    clinic.desk.look()
    clinic.fail("mail", 9)

    assert clinic.desk.look() is None
    assert 1 == answering.count


def test_two_that_look_alike_but_fail_elsewhere_are_two(clinic: Clinic, answering: MessagesApi) -> None:
    from joelclaw_tasks.core.failure import Failure

    for place in ("shop.py:read", "shop.py:write"):
        clinic.emit("mail", {})
        [job] = clinic.store.claim(["q"], 1, "w").jobs
        clinic.store.discard(job.tag, Failure.of("KeyError", "'a'", place=place))
        assert clinic.desk.look() is not None, place

    assert 2 == answering.count


def test_by_hand_what_was_paid_for_is_shown_and_again_pays_again(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.fail("mail", 2)
    doing: list[str] = []

    first = clinic.desk.diagnose("mail", actor="joel", say=doing.append)
    second = clinic.desk.diagnose("mail.do", actor="joel")
    third = clinic.desk.diagnose("mail", actor="joel", again=True)

    assert [("d1", True), ("d1", False), ("d2", True)] == [
        (made.record["id"], made.is_new) for made in (first, second, third)
    ]
    assert first.record == second.record
    assert 2 == answering.count
    assert [] == clinic.told  # who asked sees it
    assert ["collecting evidence", "asking a model; this may take some minutes"] == doing
    assert clinic.desk.look() is None  # d2 holds it now


def test_what_was_thought_before_is_evidence(clinic: Clinic, answering: MessagesApi) -> None:
    clinic.fail("mail")
    clinic.desk.diagnose("mail", actor="joel")
    clinic.desk.diagnoses.judge("d1", "rejected", actor="joel", reason="the server was up")

    clinic.desk.diagnose("mail", actor="joel", again=True)

    assert "d1 by model: downstream_outage in smtp.example.org" in answering.requests[-1].per_call
    assert "A person has rejected it: the server was up" in answering.requests[-1].per_call
    assert "past_diagnosis" not in answering.requests[0].per_call


# -- when it goes wrong ---------------------------------------------------------------------------


def test_a_model_that_is_away_is_asked_again_after_an_hour_and_a_person_is_told_once(
    clinic: Clinic, api: MessagesApi, spending: Spending
) -> None:
    api.rule = lambda _: Fault.OVERLOADED
    clinic.retry("mail", 8)

    record = clinic.desk.look()
    asked = api.count

    assert record is not None
    assert ("fallback", "rules", "overloaded") == (
        record["state"], record["diagnosis"]["by"], record["diagnosis"]["fallback"],
    )  # fmt: skip
    assert clinic.desk.look() is None
    assert asked == api.count
    wait_ms(clinic, RETRY_MS)
    assert clinic.desk.look() is not None
    assert asked < api.count
    [(text, _, _)] = clinic.told
    assert "By fixed rules: downstream outage in mail.do (50 %)." in text
    assert 0 == opus_today(spending).cost_nano_usd


def test_by_hand_an_answer_of_the_rules_is_no_reason_to_wait(clinic: Clinic, api: MessagesApi) -> None:
    clinic.fail("mail")
    api.rule = lambda _: Fault.OVERLOADED
    clinic.desk.diagnose("mail", actor="joel")
    api.rule = lambda _: said()

    made = clinic.desk.diagnose("mail", actor="joel")

    assert (True, "diagnosed") == (made.is_new, made.record["state"])


def test_an_answer_that_was_paid_for_and_refused_is_not_bought_twice(
    clinic: Clinic, api: MessagesApi
) -> None:
    clinic.fail("mail")
    api.rule = lambda _: said(tried=[{"what": "Magic.", "evidence": ["E99"]}])

    record = clinic.desk.look()
    asked = api.count
    wait_ms(clinic, RETRY_MS + 60_000)

    assert record is not None
    assert ("fallback", "invalid_answer", True) == (
        record["state"], record["diagnosis"]["fallback"], record["diagnosis"]["paid"],
    )  # fmt: skip
    assert clinic.desk.look() is None
    assert asked == api.count


def test_without_budget_the_rules_answer_and_nothing_is_asked(
    clinic: Clinic, client_of: Callable[..., ModelClient], api: MessagesApi
) -> None:
    clinic.fail("mail")

    record = clinic.desk_of(client_of(daily_budget_nano_usd=0)).look()

    assert record is not None
    assert "budget_spent" == record["diagnosis"]["fallback"]
    assert 0 == api.count


def test_a_process_that_dies_while_it_asks_leaves_a_trace_and_the_failure_is_held(
    clinic: Clinic, answering: MessagesApi
) -> None:
    class Killed(BaseException):
        pass

    class Dying:
        def decide(self, *_: Any, **__: Any) -> Any:
            raise Killed

    clinic.fail("mail")
    dying = clinic.desk_of(Dying())  # type: ignore[arg-type]
    with pytest.raises(Killed):
        dying.look()

    [left] = clinic.desk.diagnoses.recent()
    assert ("asking", None) == (left["state"], left["diagnosis"])
    assert clinic.desk.look() is None
    assert 0 == answering.count
    made = clinic.desk.diagnose("mail", actor="joel")
    assert (False, "asking") == (made.is_new, made.record["state"])
    assert clinic.desk.diagnose("mail", actor="joel", again=True).is_new


def test_a_person_who_cannot_be_told_changes_nothing(clinic: Clinic, answering: MessagesApi) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no route to the phone")

    clinic.fail("mail")
    clinic.desk._tell = broken

    record = clinic.desk.look()

    assert record is not None
    assert "diagnosed" == clinic.desk.diagnoses.get(record["id"])["state"]


def test_an_answer_that_redis_cannot_keep_is_given_all_the_same(
    clinic: Clinic, answering: MessagesApi, caplog: pytest.LogCaptureFixture
) -> None:
    class Forgetful(Diagnoses):
        def end(self, *_: Any, **__: Any) -> bool:
            raise CoreUnreachable("Redis does not answer")

    clinic.fail("mail")
    clinic.desk.diagnoses = Forgetful(clinic.store)

    made = clinic.desk.diagnose("mail", actor="joel")

    assert (True, "diagnosed") == (made.is_new, made.record["state"])
    assert "the diagnosis d1 could not be kept" in caplog.text
    assert not clinic.desk.diagnose("mail", actor="joel").is_new
    assert 1 == answering.count


def test_redis_gone_is_said_and_nobody_is_asked(clinic: Clinic, answering: MessagesApi) -> None:
    store = Store(redis.Redis(port=9), clinic.store.keys)
    clinic.desk._store = store
    clinic.desk.diagnoses = Diagnoses(store)

    with pytest.raises(CoreUnreachable):
        clinic.desk.look()
    assert 0 == answering.count


# -- verdicts and retention -----------------------------------------------------------------------


def test_a_verdict_is_recorded_with_who_and_why_and_changes_nothing_else(
    clinic: Clinic, answering: MessagesApi
) -> None:
    clinic.fail("mail")
    before = clinic.desk.diagnose("mail", actor="joel").record
    diagnoses = clinic.desk.diagnoses
    entries = clinic.store.client.xlen(clinic.store.keys.transitions)

    diagnoses.judge("d1", "accepted", actor="joel", reason="it was down; password=swordfish-4711")
    after = diagnoses.judge("d1", "rejected", actor="ann", reason="it was not")

    assert ("rejected", "ann", "it was not", "accepted") == tuple(
        after["verdict"][name] for name in ("verdict", "actor", "reason", "before")
    )
    assert after == diagnoses.get("d1")
    assert {**before, "verdict": after["verdict"]} == after
    assert entries == clinic.store.client.xlen(clinic.store.keys.transitions)
    with pytest.raises(UnknownDiagnosis, match="d9"):
        diagnoses.judge("d9", "accepted", actor="joel", reason="")


def test_a_reason_with_a_secret_is_kept_without_it(clinic: Clinic, answering: MessagesApi) -> None:
    clinic.fail("mail")
    clinic.desk.diagnose("mail", actor="joel")

    judged = clinic.desk.diagnoses.judge("d1", "accepted", actor="joel", reason="password=swordfish-4711")

    assert "password=***" == judged["verdict"]["reason"]


def test_the_newest_are_kept_and_all_of_them_go_by_themselves(clinic: Clinic) -> None:
    diagnoses, client, keys = clinic.desk.diagnoses, clinic.store.client, clinic.store.keys
    for number in range(MOST_DIAGNOSES + 5):
        diagnoses.begin({"at": number}, free=[f"f{number}"], hold=[f"f{number}"])

    assert MOST_DIAGNOSES == len(client.keys(keys.diagnosis("*")))
    assert [f"d{MOST_DIAGNOSES + 5}", f"d{MOST_DIAGNOSES + 4}"] == [
        each["id"] for each in diagnoses.recent(2)
    ]
    assert all(
        client.pttl(key) > 0 for key in client.keys(keys.diagnosis("*")) + client.keys(keys.diagnosed("*"))
    )
    assert not diagnoses.end("d1", {"at": 0}, held=["f0"])
    assert 0 == client.exists(keys.diagnosis("d1"))
