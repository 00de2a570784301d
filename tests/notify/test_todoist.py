"""Todoist: the official SDK against a local server that speaks its API. One open task for each cause."""

from __future__ import annotations

import pytest

from tests.notify.conftest import DAY, HOUR, tasks
from tests.notify.servers import TODOIST_TOKEN, Answer


def test_a_cause_has_one_open_task_which_is_closed_when_it_is_resolved(office, todoist):
    notifier = office.configured(**tasks(todoist))

    notifier("mail is held back.\nIt fails.", cause="observer.mail", severity="warning", change="opened")
    notifier("mail is held back.", cause="observer.mail", severity="warning", change="opened")
    assert ["mail is held back."] == todoist.open_tasks()
    task = todoist.tasks["t1"]
    assert ("mail is held back.\nIt fails.\n\ncause: observer.mail", ["joelclaw"], 2) == (
        task["description"], task["labels"], task["priority"],
    )  # fmt: skip
    notifier("It is worse.", cause="observer.mail", severity="error", change="changed")
    notifier("mail goes again.", cause="observer.mail", change="resolved")

    assert ([], 1) == (todoist.open_tasks(), len(todoist.tasks))
    assert [("t1", "It is worse."), ("t1", "mail goes again.")] == todoist.comments
    assert office.notices.task_of("observer.mail") is None


def test_another_time_there_is_another_task(office, todoist):
    notifier = office.configured(**tasks(todoist))
    for _ in range(2):
        notifier("down", cause="a", severity="error", change="opened")
        notifier("up", cause="a", change="resolved")
        office.wait(2 * DAY)

    assert 2 == len(todoist.tasks)
    assert [] == todoist.open_tasks()


def test_causes_do_not_share_a_task(office, todoist):
    notifier = office.configured(**tasks(todoist))
    for cause in ("a", "b"):
        notifier(f"{cause} is down", cause=cause, severity="error", change="opened")
    notifier("a is up", cause="a", change="resolved")

    assert ["b is down"] == todoist.open_tasks()


def test_news_makes_no_task_unless_it_is_bad(office, todoist):
    notifier = office.configured(**tasks(todoist))
    for severity in ("info", "warning", "error", "critical"):
        notifier(severity, cause=severity, severity=severity)

    assert ["error", "critical"] == todoist.open_tasks()
    assert [3, 4] == [task["priority"] for task in todoist.tasks.values()]


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_task_that_somebody_has_done_or_deleted_is_left_alone(office, todoist, is_deleted):
    notifier = office.configured(**tasks(todoist))
    notifier("down", cause="a", severity="error", change="opened")
    if is_deleted:
        todoist.tasks.clear()
    else:
        todoist.tasks["t1"]["completed_at"] = "2026-03-01T10:00:00Z"

    notifier("worse", cause="a", severity="critical", change="changed")
    notifier("up", cause="a", change="resolved")

    assert [] == todoist.open_tasks()
    assert ["up"] == [text for _, text in todoist.comments]


def test_what_is_sent_again_after_a_lost_answer_changes_nothing_twice(office, todoist):
    notifier = office.configured(**tasks(todoist))
    notifier("down", cause="a", severity="error", change="opened")
    real = todoist.answer

    def comments_but_cannot_close(asked):
        return Answer(503) if asked.path.endswith("/close") else real(asked)

    todoist.answer = comments_but_cannot_close
    notifier("up", cause="a", change="resolved")
    assert ["down"] == todoist.open_tasks()
    todoist.answer = real
    office.wait(HOUR)
    notifier.run_due()

    assert ([("t1", "up")], []) == (todoist.comments, todoist.open_tasks())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"error": "Unauthorized"}), Answer(500), Answer(200, "<html>"), Answer(200, {}),
        Answer(200, []), Answer(429, headers={"Retry-After": "60"}),
    ],
)  # fmt: skip
def test_what_may_be_well_later_is_sent_again_later(office, todoist, answer):
    notifier = office.configured(**tasks(todoist))
    todoist.next_answers = [answer]

    notifier("down", cause="a", severity="error", change="opened")
    assert [] == todoist.open_tasks()
    office.wait(HOUR)
    notifier.run_due()

    assert ["down"] == todoist.open_tasks()


def test_the_token_is_in_no_log_and_no_error(office, todoist, caplog):
    caplog.set_level("DEBUG")
    notifier = office.configured(**tasks(todoist))
    todoist.next_answers = [Answer(403, {"error": f"no rights for {TODOIST_TOKEN}"})]

    notifier("down", cause="a", severity="error", change="opened")

    assert TODOIST_TOKEN not in caplog.text + repr(office.settings) + str(office.notices.sink("todoist"))
