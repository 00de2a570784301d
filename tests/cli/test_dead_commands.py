"""joelclaw dead: list, show, revive and purge against a real Redis."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
import time
from typing import Any

import pytest
import redis

from joelclaw_tasks.cli.revival import parse_rate
from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import PROGRAM, JoelclawProcess, read_terminal
from tests.cli.test_queue_commands import plain_job
from tests.conftest import wait_until


def payload(*args: Any, **kwargs: Any) -> str:
    body = base64.b64encode(json.dumps([args, kwargs, {}]).encode()).decode()
    return json.dumps({"body": body, "headers": {"retries": 2}, "properties": {"body_encoding": "base64"}})


def bury(store: Store, *jobs: Job, kind: str = "ValueError", text: str = "no card") -> str:
    """Put jobs into the dead letter, all for one reason; answers the signature."""
    why = Failure.of(kind, text, place="shop/tasks.py:charge", traceback="Traceback …\n\x1b[2J[red]")
    for job in jobs:
        store.admit([job])
        [claimed] = store.claim([job.queue], 1, "w1").jobs
        store.discard(claimed.tag, why)
    return why.signature


def dead_ids(joelclaw: JoelclawProcess) -> set[str]:
    return {job["id"] for job in joelclaw("dead", "list", "--jobs").result["jobs"]}


def test_an_empty_dead_letter_has_no_groups(joelclaw: JoelclawProcess) -> None:
    assert joelclaw("dead", "list").result == {"count": 0, "groups": []}
    assert joelclaw("dead", "list", "--jobs").result == {"count": 0, "jobs": []}


def test_list_answers_groups_and_what_to_do_with_the_first(joelclaw: JoelclawProcess, store: Store) -> None:
    other = bury(store, plain_job("c"), text="no money")
    signature = bury(store, plain_job("a"), plain_job("b"))

    piped = joelclaw("dead", "list")

    assert piped.result["count"] == 3
    assert [(one["signature"], one["count"], one["sample"]) for one in piped.result["groups"]] == [
        (signature, 2, "b"),
        (other, 1, "c"),
    ]
    assert set(piped.result["groups"][0]) == {
        "signature", "count", "first_at", "last_at", "place", "error", "sample",
    }  # fmt: skip
    assert piped.next_commands[:2] == [
        "joelclaw dead show b",
        f"joelclaw dead revive --signature {signature} --sample 1",
    ]
    assert len(joelclaw("dead", "list", "--limit", "1").result["groups"]) == 1


def test_list_answers_single_jobs_by_any_condition(joelclaw: JoelclawProcess, store: Store) -> None:
    signature = bury(store, plain_job("a"), plain_job("b", family="mail", handler="mail.send"))
    bury(store, plain_job("c", payload=payload({"name": "x", "data": {"repo": "acme"}})), text="no money")

    def ids(*options: str) -> list[str]:
        return [job["id"] for job in joelclaw("dead", "list", *options).result["jobs"]]

    assert ids("--jobs") == ["c", "b", "a"]
    assert ids("--jobs", "-n", "2") == ["c", "b"]
    assert ids("--signature", signature[:14]) == ["b", "a"]
    assert ids("--family", "mail") == ["b"] == ids("--handler", "mail.send")
    assert ids("--where", "data.repo=acme") == ["c"]
    assert ids("--where", "family=mail claims=1 age<1h") == ["b"]
    assert (
        ids("--where", "error~*money*") == ["c"] == ids("--where", "signature!~ValueError-x* data.repo~ac*")
    )
    assert ids("--family", "mail", "--where", "data.repo=acme") == []


def test_show_answers_error_traceback_and_message(joelclaw: JoelclawProcess, store: Store) -> None:
    signature = bury(store, plain_job("a", payload=payload(17)))

    piped = joelclaw("dead", "show", "a")

    job = piped.result["job"]
    assert (job["error"], job["signature"], job["claims"]) == ("ValueError: no card", signature, 1)
    assert job["traceback"].startswith("Traceback")
    assert job["payload"]["body"][0] == [17]
    assert f"joelclaw dead list --signature {signature}" in piped.next_commands


def test_only_a_dead_job_is_shown(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("waits")])

    assert joelclaw("dead", "show", "waits").error["code"] == "JOB_WRONG_STATE"
    assert joelclaw("dead", "show", "nobody").error["code"] == "QUEUE_MESSAGE_MISSING"


def test_revive_by_signature_leaves_the_other_groups(joelclaw: JoelclawProcess, store: Store) -> None:
    signature = bury(store, *(plain_job(f"a{n}") for n in range(4)))
    bury(store, plain_job("other"), text="no money")

    first = joelclaw("dead", "revive", "--signature", signature, "--sample", "1", "--reason", "fixed")

    assert first.result == {
        "selected": 4, "refused": 0, "revived": 1, "gone": 0, "left": 3, "ids": ["a3"], "dry_run": False,
    }  # fmt: skip
    assert first.next_commands[:2] == [
        "joelclaw queue inspect a3",
        f"joelclaw dead revive --signature {signature} --rate 10/s",
    ]
    rest = joelclaw("dead", "revive", "--signature", signature, "--rate", "1000/s")
    assert (rest.result["revived"], rest.result["left"]) == (3, 0)
    assert dead_ids(joelclaw) == {"other"}
    entries = [entry for _, entry in store.client.xrange(store.keys.transitions)]
    actors = {(entry[b"actor"], entry.get(b"reason")) for entry in entries if entry[b"verb"] == b"revive"}
    assert actors == {(b"joel@cli", b"fixed"), (b"joel@cli", None)}
    [claimed, *_] = store.claim(["default"], 9, "w1").jobs
    assert claimed.tag.startswith("a")


def test_revive_by_ids_family_handler_where_or_all(joelclaw: JoelclawProcess, store: Store) -> None:
    bury(
        store, plain_job("a"), plain_job("b"), plain_job("m", family="mail"), plain_job("h", handler="h"),
        plain_job("w", payload=payload(repo="acme")), plain_job("z"),
    )  # fmt: skip

    assert joelclaw("dead", "revive", "b", "a", "b", "nobody").result["ids"] == ["b", "a"]
    assert joelclaw("dead", "revive", "--family", "mail").result["ids"] == ["m"]
    assert joelclaw("dead", "revive", "--handler", "h").result["ids"] == ["h"]
    assert joelclaw("dead", "revive", "--where", "kwargs.repo=acme").result["ids"] == ["w"]
    assert joelclaw("dead", "revive", "--all").result["ids"] == ["z"]
    assert dead_ids(joelclaw) == set()


@pytest.mark.parametrize("verb", ["revive", "purge"])
def test_a_dry_run_says_what_and_does_nothing(joelclaw: JoelclawProcess, store: Store, verb: str) -> None:
    signature = bury(store, plain_job("a"), plain_job("b"))

    result = joelclaw("dead", verb, "--signature", signature, "--dry-run").result

    assert (result["dry_run"], result[f"would_{verb}"]) == (True, 2)
    assert result["signatures"] == {signature: 2}
    assert [job["id"] for job in result["sample"]] == ["b", "a"]
    assert dead_ids(joelclaw) == {"a", "b"}


@pytest.mark.parametrize("verb", ["revive", "purge"])
@pytest.mark.parametrize(
    "arguments", [[], ["a", "--all"], ["a", "--family", "x"], ["--all", "--signature", "x"]], ids=" ".join
)
def test_which_jobs_must_be_said_in_one_way(
    joelclaw: JoelclawProcess, store: Store, verb: str, arguments: list[str]
) -> None:
    bury(store, plain_job("a"))

    piped = joelclaw("dead", verb, *arguments, "--yes")

    assert (piped.code, piped.error["code"]) == (2, "USAGE")
    assert dead_ids(joelclaw) == {"a"}


def test_what_nothing_fits_is_an_error(joelclaw: JoelclawProcess, store: Store) -> None:
    signature = bury(store, plain_job("a"))

    for verb in ("revive", "purge"):
        for arguments in (["nobody"], ["--family", "nobody"], ["--where", "data.repo=x"]):
            piped = joelclaw("dead", verb, *arguments, "--yes")
            assert (piped.code, piped.error["code"]) == (1, "DEAD_NOTHING_SELECTED")
        unknown = joelclaw("dead", verb, "--signature", signature[:-1] + "x", "--yes")
        assert unknown.error["code"] == "DEAD_SIGNATURE_UNKNOWN"
        assert unknown.error["details"] == {"nearest": signature}
        assert joelclaw("dead", verb, "--where", "data[=1", "--yes").code == 2
    assert joelclaw("dead", "list", "--signature", "nope").error["code"] == "DEAD_SIGNATURE_UNKNOWN"
    assert dead_ids(joelclaw) == {"a"}


def test_the_beginning_of_two_signatures_is_refused_with_both(
    joelclaw: JoelclawProcess, store: Store
) -> None:
    both = {bury(store, plain_job("a")), bury(store, plain_job("b"), text="no money")}

    piped = joelclaw("dead", "revive", "--signature", "ValueError-")

    assert piped.error["code"] == "DEAD_SIGNATURE_AMBIGUOUS"
    assert set(piped.error["details"]["signatures"]) == both


def test_what_could_never_run_is_not_revived(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("bad", refusal="undecodable message")])
    assert joelclaw("dead", "revive", "--all").error["code"] == "JOB_WRONG_STATE"

    bury(store, plain_job("a"))
    result = joelclaw("dead", "revive", "--all").result
    assert (result["selected"], result["refused"], result["ids"]) == (2, 1, ["a"])
    assert dead_ids(joelclaw) == {"bad"}


def test_purge_deletes_on_the_record_and_only_when_told_yes(joelclaw: JoelclawProcess, store: Store) -> None:
    bury(store, plain_job("a"), plain_job("b", family="mail"))

    refused = joelclaw("dead", "purge", "--family", "mail")
    assert (refused.code, refused.error["code"]) == (2, "USAGE")
    assert dead_ids(joelclaw) == {"a", "b"}

    purged = joelclaw("dead", "purge", "--family", "mail", "--yes", "--reason", "spam", "--actor", "kody")
    assert purged.result == {"selected": 1, "purged": 1, "dry_run": False}
    assert dead_ids(joelclaw) == {"a"}
    [entry] = [
        entry for _, entry in store.client.xrange(store.keys.transitions) if entry[b"verb"] == b"purge"
    ]
    assert (entry[b"job"], entry[b"actor"], entry[b"reason"]) == (b"b", b"kody", b"spam")


def test_a_rate_holds_and_ctrl_c_says_what_is_left(joelclaw: JoelclawProcess, store: Store) -> None:
    signature = bury(store, *(plain_job(f"a{n}") for n in range(30)))
    command = ["dead", "revive", "--signature", signature, "--rate", "20/s"]

    started = time.monotonic()
    with subprocess.Popen(
        [*PROGRAM, *command], env=joelclaw.env, cwd=joelclaw.home, stdout=subprocess.PIPE
    ) as process:
        wait_until(lambda: store.dead.count() <= 25, "five are revived")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    took_s = time.monotonic() - started

    envelope = json.loads(out)
    assert (process.returncode, envelope["error"]["code"]) == (130, "DEAD_REVIVE_STOPPED")
    details = envelope["error"]["details"]
    assert details["revived"] + details["left"] == 30
    assert store.dead.count() == details["left"]
    assert 5 <= details["revived"] <= 1 + 20 * took_s
    assert envelope["next_actions"][0]["command"] == f"joelclaw {' '.join(command)}"
    assert store.snapshot()["total"] == details["revived"]


@pytest.mark.parametrize("rate", ["", "10", "0/s", "10/d", "-1/s", "1.5/s", "x/s"])
def test_a_rate_that_is_none_is_refused_and_nothing_is_revived(
    joelclaw: JoelclawProcess, store: Store, rate: str
) -> None:
    bury(store, plain_job("a"))
    piped = joelclaw("dead", "revive", "a", f"--rate={rate}")
    assert (piped.code, piped.error["code"]) == (2, "USAGE")
    assert dead_ids(joelclaw) == {"a"}


def test_rates_are_read_as_people_type_them() -> None:
    assert [10, 2, 0.5] == [parse_rate(text) for text in ("10/s", "120 / M", "1800/h")]


def test_a_full_redis_still_lets_the_dead_letter_be_emptied(
    joelclaw: JoelclawProcess, store: Store, client: redis.Redis
) -> None:
    bury(store, plain_job("a"), plain_job("b"))
    client.config_set("maxmemory", "1mb")
    try:
        assert joelclaw("dead", "purge", "a", "--yes").result["purged"] == 1
        assert joelclaw("dead", "revive", "b").result["revived"] == 1
    finally:
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize("arguments", [["list"], ["show", "x"], ["revive", "x"], ["purge", "--all", "-y"]])
def test_without_a_redis_every_dead_command_exits_3(
    joelclaw_offline: JoelclawProcess, arguments: list[str]
) -> None:
    refused = joelclaw_offline("dead", *arguments)
    assert (refused.code, refused.error["code"]) == (3, "REDIS_UNREACHABLE")


def test_on_a_terminal_groups_and_a_job_are_readable(joelclaw: JoelclawProcess, store: Store) -> None:
    assert "the dead letter is empty" in joelclaw.on_terminal("dead", "list").screen
    signature = bury(store, plain_job("job-1"), text="\x1b[2J[red]no card")

    listed = joelclaw.on_terminal("dead", "list")
    jobs = joelclaw.on_terminal("dead", "list", "--jobs")
    shown = joelclaw.on_terminal("dead", "show", "job-1")

    assert (listed.code, listed.stderr) == (0, "")
    for screen in (listed.screen, jobs.screen, shown.screen):
        assert signature in screen
        assert "\\x1b[2J[red]" in screen
        assert "\x1b[2J" not in screen
    assert "shop/tasks.py:charge" in listed.screen
    assert "1 dead" in listed.screen
    assert "Traceback" in shown.screen


def answered(joelclaw: JoelclawProcess, answer: str, *arguments: str) -> tuple[int, str]:
    """Run on a terminal, type the answer when asked; the exit code and what was seen."""
    screen_end, program_end = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=program_end, stdout=program_end, stderr=program_end,
        env=joelclaw.env | {"TERM": "xterm-256color"}, cwd=joelclaw.home,
    )  # fmt: skip
    os.close(program_end)
    answers = [answer.encode() + b"\n"]

    def hear(seen: bytes) -> None:
        if b"[y/N]" in seen and answers:
            os.write(screen_end, answers.pop())

    seen = read_terminal(screen_end, hear)
    return process.wait(20), seen.decode()


def test_on_a_terminal_a_person_is_asked_first(joelclaw: JoelclawProcess, store: Store) -> None:
    bury(store, plain_job("a"), plain_job("b"), plain_job("c"))

    code, seen = answered(joelclaw, "n", "dead", "purge", "--all")
    assert (code, "purge for good 3 dead jobs (--all)? [y/N]" in seen) == (1, True)
    assert "nothing was changed" in seen
    assert dead_ids(joelclaw) == {"a", "b", "c"}

    code, seen = answered(joelclaw, "n", "dead", "revive", "--all")
    assert (code, "revive 3 dead jobs (--all)? [y/N]" in seen) == (1, True)
    assert dead_ids(joelclaw) == {"a", "b", "c"}

    code, seen = answered(joelclaw, "n", "dead", "revive", "a")  # one, by its id: that is an answer already
    assert (code, "[y/N]" in seen) == (0, False)
    assert answered(joelclaw, "y", "dead", "revive", "b", "c")[0] == 0
    assert dead_ids(joelclaw) == set()
