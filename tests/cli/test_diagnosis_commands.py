"""joelclaw diagnose and joelclaw diagnosis against a real Redis and the local Messages API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.diagnosis.desk import cause_of
from joelclaw_tasks.intelligence.local.act import Act
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
from tests.cli.conftest import JoelclawProcess, admit_content
from tests.diagnosis.conftest import KEY, candidate, said

FAMILY = "content/updated"
BROKEN = "KeyError: 'path'"


@pytest.fixture
def failing(store: Store) -> Store:
    """Three dead jobs of a family, with the traceback of a handler."""
    admit_content(store, 3)
    frame = '  File "/srv/shop/read.py", line 7, in read'
    trace = f"Traceback (most recent call last):\n{frame}\n{BROKEN}\n"
    for job in store.claim(["default"], 3, "w").jobs:
        store.discard(job.tag, Failure.of("KeyError", "'path'", traceback=trace))
    return store


@pytest.fixture
def api(joelclaw: JoelclawProcess) -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        joelclaw.env |= {"ANTHROPIC_BASE_URL": running.url, "ANTHROPIC_API_KEY": KEY}
        running.rule = lambda _: said(candidates=[candidate(cause="code_defect", component="shop/read.py")])
        yield running


def test_a_diagnosis_is_made_shown_and_judged(
    joelclaw: JoelclawProcess, failing: Store, api: MessagesApi
) -> None:
    before = {key: failing.client.dump(key) for key in failing.client.keys("*")}

    made = joelclaw("diagnose", FAMILY)

    record = made.result["diagnosis"]
    assert (True, "d1", "diagnosed") == (made.result["is_new"], record["id"], record["state"])
    assert set(record["diagnosis"]["candidates"][0]["evidence"]) <= {
        each["id"] for each in record["evidence"]["exhibits"]
    }
    assert "joelclaw diagnosis accept d1" in made.next_commands
    assert ("joel@cli", 1) == (record["actor"], api.count)
    assert before.items() <= {key: failing.client.dump(key) for key in failing.client.keys("*")}.items()

    again = joelclaw("diagnose", "content.validate")
    assert (False, 1) == (again.result["is_new"], api.count)
    assert "joelclaw diagnose content.validate --again" == again.next_commands[0]
    screen = joelclaw.on_terminal("diagnosis", "show", "d1").screen
    for line in (
        "1. code defect in shop/read.py (80%)",
        "proposed: Start the mail server.",
        "by claude-opus-5-5, $",
    ):
        assert line in screen

    cause = cause_of(record)
    Notifier.of(Settings(redis_url=joelclaw.env["REDIS_URL"]), failing)("d1", cause=cause, change="opened")
    judged = joelclaw("diagnosis", "reject", "d1", "--reason", "it was the parser")
    assert judged.stderr == "Diagnosis d1 is rejected by joel@cli.\n"
    log = joelclaw("notify", "list").result["log"]
    assert ["told", "told"] == [each["word"] for each in log if each["cause"] == cause]
    assert ("rejected", "joel@cli", "it was the parser") == tuple(
        judged.result["verdict"][name] for name in ("verdict", "actor", "reason")
    )
    [listed] = joelclaw("diagnosis", "list").result["diagnoses"]
    assert ("d1", "code_defect", "rejected") == (listed["id"], listed["cause"], listed["verdict"]["verdict"])
    assert "evidence" not in listed


def test_ctrl_c_leaves_a_trace_and_is_not_paid_for_twice(
    joelclaw: JoelclawProcess, failing: Store, api: MessagesApi
) -> None:
    api.rule = lambda _: Act(value=said(), after_s=20)

    assert 130 == joelclaw.until_seen("asking a model", "diagnose", FAMILY)

    again = joelclaw("diagnose", FAMILY)
    assert (False, "asking") == (again.result["is_new"], again.result["diagnosis"]["state"])
    assert api.count <= 1  # it may not have been sent yet
    assert f"joelclaw diagnose {FAMILY} --again" == again.next_commands[0]


def test_without_a_key_fixed_rules_answer_and_say_so(joelclaw: JoelclawProcess, failing: Store) -> None:
    signature = failing.dead.signatures()[0]

    made = joelclaw("diagnose", signature)

    found = made.result["diagnosis"]["diagnosis"]
    assert ("rules", "no_key") == (found["by"], found["fallback"])
    # Whether there was a commit just before depends on the checkout that the tests are of.
    assert "code_defect" in [each["cause"] for each in found["candidates"]]
    screen = joelclaw.on_terminal("diagnose", "j1").screen
    assert "by fixed rules, for no model answered: no_key" in screen
    assert "code defect in content.validate" in screen


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("diagnose", "content/updatet"), "QUEUE_TARGET_UNKNOWN"),
        (("diagnosis", "accept", "d7"), "DIAGNOSIS_UNKNOWN"),
    ],
)
def test_what_is_not_there_is_refused(
    joelclaw: JoelclawProcess, failing: Store, arguments: tuple[str, ...], code: str
) -> None:
    assert code == joelclaw(*arguments).error["code"]


def test_where_nothing_was_diagnosed_the_list_says_so(joelclaw: JoelclawProcess, store: Store) -> None:
    assert "nothing was diagnosed yet" in joelclaw.on_terminal("diagnosis", "list").screen


def test_without_redis_nothing_is_asked(joelclaw_offline: JoelclawProcess) -> None:
    assert ("REDIS_UNREACHABLE", 3) == (
        (answer := joelclaw_offline("diagnose", FAMILY)).error["code"], answer.code,
    )  # fmt: skip
