"""The envelope: what goes in, and what every reader can rely on."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.cli.envelope import (
    CommandFailed,
    ExitCode,
    Failure,
    NextAction,
    Outcome,
    failed,
    succeeded,
    to_json,
)
from joelclaw_tasks.core.redaction import without_url_passwords
from joelclaw_tasks.errors import (
    CoreUnreachable,
    JoelclawError,
    RegistryError,
    SettingsError,
    UnknownEvent,
    UnknownJob,
)
from tests.cli.rules import check_envelope

any_text = st.text(st.characters(), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


@given(result=any_json)
def test_whatever_the_result_the_json_is_ascii_that_a_strict_reader_takes(result: object) -> None:
    envelope = succeeded("joelclaw queue inspect", Outcome(result))

    written = to_json(envelope)

    assert written.isascii()
    assert not any(character < " " and character != "\n" for character in written)
    read = json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} was printed"))
    check_envelope(read)
    json.dumps(read, ensure_ascii=False).encode("utf-8")  # no lone surrogate is left


def test_plain_json_comes_back_as_it_went_in() -> None:
    value = {"a": [1, -2.5, True, None, "ü 🦀 \x1b[31m \u202e"], "b": {"": {}}, "big": 2**70}

    assert json.loads(to_json(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        ("\ud800", "\\ud800"),
        (b"\xff\x00a", "\\xff\x00a"),
        ({1: "one", None: 2}, {"1": "one", "None": 2}),
        ({3, 1, 2}, [1, 2, 3]),
        (Path("/a"), "/a"),
        (datetime(2026, 3, 7, tzinfo=UTC), "2026-03-07 00:00:00+00:00"),
        (NextAction("queue depth", "look"), {"command": "joelclaw queue depth", "description": "look"}),
    ],
)
def test_what_json_cannot_say_becomes_something_that_it_can(value: object, expected: object) -> None:
    assert json.loads(to_json(value)) == expected


def test_a_payload_nested_without_end_cannot_exhaust_the_stack() -> None:
    nested: list[object] = []
    for _ in range(50_000):
        nested = [nested]

    assert "nested deeper than 100" in to_json(nested)

    # Python would free the nest recursively too.
    while nested:
        nested = nested.pop()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (UnknownJob("no job has the id 7"), "QUEUE_MESSAGE_MISSING", ExitCode.FAILED),
        (UnknownEvent("no event is named 'x'"), "EVENT_UNKNOWN", ExitCode.FAILED),
        (SettingsError("unknown setting"), "SETTINGS_INVALID", ExitCode.FAILED),
        (CoreUnreachable("Redis does not answer"), "REDIS_UNREACHABLE", ExitCode.UNREACHABLE),
        (redis.exceptions.ConnectionError("refused"), "REDIS_UNREACHABLE", ExitCode.UNREACHABLE),
        (redis.exceptions.TimeoutError("slow"), "REDIS_UNREACHABLE", ExitCode.UNREACHABLE),
        (redis.exceptions.ResponseError("OOM"), "INTERNAL_ERROR", ExitCode.FAILED),
        (ZeroDivisionError("division by zero"), "INTERNAL_ERROR", ExitCode.FAILED),
        (KeyboardInterrupt(), "INTERRUPTED", ExitCode.INTERRUPTED),
        (CommandFailed("no", code="NO", fix="yes", exit_code=ExitCode.USAGE), "NO", ExitCode.USAGE),
        (JoelclawError(""), "JOELCLAW_ERROR", ExitCode.FAILED),
    ],
)
def test_every_exception_has_a_code_a_fix_and_an_exit_code(
    error: BaseException, code: str, exit_code: ExitCode
) -> None:
    failure = Failure.of(error)

    check_envelope(failed("joelclaw queue list", failure))
    assert (failure.code, failure.exit_code) == (code, exit_code)


def test_all_faults_of_a_registry_are_there_for_programs() -> None:
    failure = Failure.of(RegistryError(["a.json: x", "b.json: y"]))

    assert failed("joelclaw registry check", failure)["error"]["details"] == {
        "faults": ["a.json: x", "b.json: y"]
    }


def test_a_password_in_a_url_never_reaches_a_message() -> None:
    failure = Failure.of(RuntimeError("cannot reach redis://:hunter2@10.0.0.1:6379/0 or amqp://u:p@h/"))

    assert failure.message == "RuntimeError: cannot reach redis://:***@10.0.0.1:6379/0 or amqp://u:***@h/"
    assert without_url_passwords("12:30 a@b https://h:80/x y@z") == "12:30 a@b https://h:80/x y@z"


def test_the_envelope_itself_loads_nothing_heavy() -> None:
    import subprocess

    program = "import sys, joelclaw_tasks.cli.envelope; print('redis' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
