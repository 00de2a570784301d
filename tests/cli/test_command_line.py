"""The command line as a whole: globals, usage errors, interrupts, pipes and start-up cost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, ROOT, JoelclawProcess
from tests.cli.rules import check_envelope

HEAVY = {"anthropic", "celery", "flower", "kombu", "starlette", "uvicorn", "httpx", "feedparser"}


def test_without_a_command_it_answers_the_command_tree(joelclaw_offline: JoelclawProcess) -> None:
    piped = joelclaw_offline()

    assert piped.code == 0
    commands = {each["command"]: each for each in piped.result["commands"]}
    assert {"joelclaw emit", "joelclaw queue depth", "joelclaw registry show"} <= set(commands)
    assert commands["joelclaw queue inspect"]["usage"] == "joelclaw queue inspect <job-id>"
    assert all(each["description"] for each in commands.values())
    assert "joelclaw doctor" in piped.next_commands


@pytest.mark.parametrize("group", ["queue", "registry"])
def test_a_group_without_a_command_answers_its_own_tree(
    joelclaw_offline: JoelclawProcess, group: str
) -> None:
    piped = joelclaw_offline(group)

    assert piped.code == 0
    assert piped.envelope["command"] == f"joelclaw {group}"
    assert all(each["command"].startswith(f"joelclaw {group} ") for each in piped.result["commands"])


def test_the_commands_of_the_queue_keep_their_order(joelclaw_offline: JoelclawProcess) -> None:
    names = [each["command"].split()[-1] for each in joelclaw_offline("queue").result["commands"]]

    assert names == [
        "depth", "list", "inspect", "pause", "resume", "limit", "rate", "drain", "priority", "cancel",
        "retry", "shed", "unshed", "undo", "explain", "simulate", "observe", "audit", "reconcile", "stats",
        "timeline", "watch", "status",
    ]  # fmt: skip


def test_the_version_is_an_envelope_too(joelclaw_offline: JoelclawProcess) -> None:
    piped = joelclaw_offline("--version")

    assert piped.code == 0
    assert set(piped.result) == {"version", "python"}


def test_help_is_plain_text_for_people(joelclaw_offline: JoelclawProcess) -> None:
    for arguments in (
        ["--help"], ["queue", "--help"], ["queue", "pause", "-h"], ["emit", "--help"],
        ["up", "--help"], ["demo", "--help"], ["doctor", "--help"],
    ):  # fmt: skip
        done = joelclaw_offline.raw(*arguments)

        assert done.returncode == 0
        assert "Usage: joelclaw" in done.stdout.decode()
        assert done.stderr == b""


@pytest.mark.parametrize(
    ("arguments", "command", "message", "fix"),
    [
        (["qeue"], "joelclaw", "No such command 'qeue'. Did you mean 'queue'?", "joelclaw [OPTIONS] COMMAND"),
        (["queue", "dept"], "joelclaw queue", "No such command 'dept'", "joelclaw queue [OPTIONS] COMMAND"),
        (["queue", "inspect"], "joelclaw queue inspect", "Missing argument", "queue inspect [OPTIONS]"),
        (["queue", "depth", "x"], "joelclaw queue depth", "unexpected extra argument", "queue depth --help"),
        (["queue", "list", "--limt", "1"], "joelclaw queue list", "--limt", "queue list --help"),
        (["queue", "list", "--limit", "0"], "joelclaw queue list", "--limit", "queue list --help"),
        (["queue", "list", "--limit", "many"], "joelclaw queue list", "--limit", "queue list --help"),
        (["--nonsense"], "joelclaw", "--nonsense", "joelclaw --help"),
        (["emit"], "joelclaw emit", "no event is named", "joelclaw emit <event>"),
        (["emit", "x", "--delay", "soon"], "joelclaw emit", "--delay must be", "--delay 10m"),
        (["emit", "--stdin", "--id", "1"], "joelclaw emit", "--stdin excludes", "into the lines"),
        (["queue", "pause", "x", "--actor", " "], "joelclaw queue pause", "must not be empty", "--actor"),
    ],
)  # fmt: skip
def test_a_usage_error_exits_2_and_shows_the_right_usage(
    joelclaw: JoelclawProcess, arguments: list[str], command: str, message: str, fix: str
) -> None:
    piped = joelclaw(*arguments)

    assert piped.code == 2
    assert piped.envelope["command"] == command
    assert piped.error["code"] == "USAGE"
    assert message in piped.error["message"]
    assert fix in piped.envelope["fix"]


def test_an_argument_that_is_not_utf_8_is_a_usage_error(joelclaw_offline: JoelclawProcess) -> None:
    piped = joelclaw_offline("queue", "pause", b"\xff\xfe")

    assert (piped.code, piped.error["code"]) == (2, "USAGE")


def test_global_options_count_before_and_after_the_command(joelclaw_offline: JoelclawProcess) -> None:
    for arguments in (["--home", "/nowhere", "registry", "list"], ["registry", "list", "--home", "/nowhere"]):
        assert all(each.endswith(" --home /nowhere") for each in joelclaw_offline(*arguments).next_commands)


def test_json_is_answered_on_a_terminal_when_asked_for(joelclaw_offline: JoelclawProcess) -> None:
    for arguments in (["--json", "registry", "list"], ["registry", "list", "--json"], ["nonsense", "--json"]):
        check_envelope(json.loads(joelclaw_offline.on_terminal(*arguments).screen))


def test_an_unknown_setting_is_refused_with_the_nearest_one(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["JOELCLAW_LEASE"] = "1"

    piped = joelclaw_offline("registry", "list")

    assert (piped.code, piped.error["code"]) == (1, "SETTINGS_INVALID")
    assert "JOELCLAW_LEASE_MS" in piped.error["message"]


def test_a_traceback_is_shown_only_with_debug(joelclaw_offline: JoelclawProcess) -> None:
    quiet = joelclaw_offline("registry", "show", "no/such")
    loud = joelclaw_offline("registry", "show", "no/such", "--debug")

    assert quiet.stderr == ""
    assert "Traceback" in loud.stderr
    assert loud.envelope == quiet.envelope
    assert loud.code == quiet.code == 1


def test_ctrl_c_exits_130_with_an_envelope_and_no_traceback(joelclaw: JoelclawProcess) -> None:
    done = joelclaw.interrupted("emit", "content/updated", "-d", "-")

    assert done.returncode == 130
    envelope = json.loads(done.stdout)
    check_envelope(envelope)
    assert envelope["error"]["code"] == "INTERRUPTED"
    assert done.stderr == b""


def test_a_reader_that_goes_away_is_no_error(joelclaw_offline: JoelclawProcess) -> None:
    with subprocess.Popen(
        [*PROGRAM, "registry", "list"], env=joelclaw_offline.env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""

    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [["--help"], [], ["queue", "depth"], ["registry", "list"]])
def test_start_up_imports_nothing_that_the_command_does_not_need(
    joelclaw: JoelclawProcess, arguments: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "joelclaw_tasks.cli.app", *arguments],
        env=joelclaw.env, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {entry.rsplit("|", 1)[-1].strip().split(".")[0] for entry in done.stderr.splitlines()}

    assert imported & HEAVY == set()


@pytest.mark.parametrize(
    "url",
    ["bogus", "http://:hunter2@localhost/0", "redis://:hunter2@localhost:99999/0", "redis://x:hunter2/0"],
)
def test_a_redis_url_that_is_none_is_refused_without_repeating_it(
    joelclaw_offline: JoelclawProcess, url: str
) -> None:
    joelclaw_offline.env["REDIS_URL"] = url

    piped = joelclaw_offline("queue", "depth")

    assert (piped.code, piped.error["code"]) == (1, "SETTINGS_INVALID")
    assert "hunter2" not in json.dumps(piped.envelope)


def test_a_full_disk_behind_stdout_is_said_on_stderr(joelclaw_offline: JoelclawProcess) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "registry", "list"], env=joelclaw_offline.env, check=False,
            stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == b"the answer could not be written: No space left on device\n"


def test_a_closed_stdout_is_no_error(joelclaw_offline: JoelclawProcess) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "registry", "list"], env=joelclaw_offline.env,
        stderr=subprocess.PIPE, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.timing
@pytest.mark.parametrize("arguments", [["--help"], ["queue", "depth"]])
def test_a_command_costs_little_more_than_the_import_of_its_libraries(
    joelclaw: JoelclawProcess, arguments: list[str]
) -> None:
    def cpu_s(run: Callable[[], Any]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run().returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def command() -> Any:
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=joelclaw.env,
            cwd=joelclaw.home,
            stdout=subprocess.DEVNULL,
            check=False,
        )

    libraries = [sys.executable, "-c", "import typer, redis"]
    ours = theirs = float("inf")
    for _ in range(15):  # the least of many: noise only ever adds
        ours = min(ours, cpu_s(command))
        theirs = min(theirs, cpu_s(lambda: subprocess.run(libraries, check=False)))
        if ours < 2.5 * theirs:
            return
    assert ours < 2.5 * theirs
