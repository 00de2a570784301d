"""What a person sees on a terminal."""

from __future__ import annotations

import pytest

from joelclaw_tasks.cli.duration import duration, parse_duration_ms
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode
from joelclaw_tasks.cli.terminal import printable
from tests.cli.conftest import JoelclawProcess


def test_a_listing_is_a_table_with_what_may_come_next(joelclaw_offline: JoelclawProcess) -> None:
    seen = joelclaw_offline.on_terminal("registry", "list")

    assert seen.code == 0
    assert seen.stderr == ""
    assert "github/workflow_run.completed" in seen.screen
    assert "next:\n  joelclaw registry show <event>" in seen.screen
    assert "{" not in seen.screen


def test_an_error_is_readable_on_stderr_and_stdout_stays_empty(joelclaw_offline: JoelclawProcess) -> None:
    seen = joelclaw_offline.on_terminal("registry", "show", "content/update")

    assert seen.code == 1
    assert seen.screen == ""
    assert seen.stderr.startswith("error EVENT_UNKNOWN\n")
    assert "\nfix: `joelclaw registry list`" in seen.stderr


def test_a_usage_error_is_readable_too(joelclaw_offline: JoelclawProcess) -> None:
    seen = joelclaw_offline.on_terminal("queue", "inspect")

    assert (seen.code, seen.screen) == (2, "")
    assert "fix: Usage: joelclaw queue inspect [OPTIONS]" in seen.stderr.replace("\n", " ")


def test_the_command_tree_is_readable(joelclaw_offline: JoelclawProcess) -> None:
    seen = joelclaw_offline.on_terminal()

    assert seen.code == 0
    assert "joelclaw queue inspect <job-id>" in seen.screen


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ü 🦀\nx", "ü 🦀\nx"),
        ("\x1b[2J\x07\r\x9b", "\\x1b[2J\\x07\\r\\x9b"),
        ("\u202etxt\ud800", "\\u202etxt\\ud800"),
        (7, "7"),
    ],
)
def test_control_characters_of_strangers_do_nothing(value: object, expected: str) -> None:
    assert printable(value) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (None, "-"), (0, "0 ms"), (850, "850 ms"), (999.4, "999 ms"), (4_270, "4.2 s"), (59_999, "59.9 s"),
        (60_000, "1 min 0 s"), (3_599_999, "59 min 59 s"), (7_500_000, "2 h 5 min"), (273_600_000, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_written_for_people(milliseconds: float | None, expected: str) -> None:
    assert duration(milliseconds) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("45", 45_000), ("60s", 60_000), ("10m", 600_000), ("2h", 7_200_000), (" 1D ", 86_400_000)],
)
def test_durations_are_read_as_people_type_them(text: str, expected: int) -> None:
    assert parse_duration_ms(text, "--delay") == expected


@pytest.mark.parametrize("text", ["", "bogus", "1.5h", "1h30m", "-5", "+5", "5w", "٣s", "9999999999"])
def test_a_duration_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        parse_duration_ms(text, "--delay")
    assert caught.value.exit_code == ExitCode.USAGE
