"""The terminal: envelopes drawn for people, and written for programs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.envelope import Failure, Outcome, failed, succeeded, to_json
from joelclaw_tasks.cli.invocation import Invocation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def show_outcome(invocation: Invocation, outcome: Outcome) -> None:
    """Draw a success on stdout, as the envelope or for people."""
    envelope = succeeded(invocation.command, outcome)
    _carry_home(invocation, envelope)
    if invocation.as_json:
        write(to_json(envelope))
        return
    console = console_of("stdout")
    if outcome.view is not None:
        outcome.view(console)
    elif outcome.result is not None:
        console.print(text(to_json(outcome.result)))
    _draw_next(console, envelope["next_actions"])


def show_failure(invocation: Invocation, failure: Failure) -> None:
    """Draw a failure: the envelope on stdout, or for people on stderr."""
    envelope = failed(invocation.command, failure)
    _carry_home(invocation, envelope)
    if invocation.as_json:
        write(to_json(envelope))
        return
    console = console_of("stderr")
    if failure.code == "INTERRUPTED":
        console.print(text("interrupted", "dim"))
        return
    error = envelope["error"]
    console.print(text("error ", "bold red").append_text(text(error["code"], "bold")))
    console.print(text(error["message"]))
    if failure.view is not None:
        failure.view(console)
    console.print(text("fix: ", "green").append_text(text(envelope["fix"])))
    _draw_next(console, envelope["next_actions"])


def write(document: str) -> None:
    """One document and a newline on stdout; a reader that has gone away is no error."""
    try:
        sys.stdout.write(document + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console_of(stream: str) -> Console:
    """A rich console of `stdout` or `stderr` that reads no markup in what it prints."""
    from rich.console import Console

    return Console(stderr=stream == "stderr", markup=False, highlight=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    """Text for the terminal, in which control characters of strangers do nothing."""
    from rich.text import Text

    return Text(printable(value), style=style)


def table(*columns: str, title: str | None = None, numeric: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in `numeric` are right-aligned."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    return drawn


def printable(value: object) -> str:
    """The value as text; control, format and surrogate characters are shown as escapes."""
    return "".join(
        each if each == "\n" or unicodedata.category(each) not in {"Cc", "Cf", "Cs"} else _escape(each)
        for each in str(value)
    )


def duration(milliseconds: float | None) -> str:
    """A duration for people: 850 ms, 4.2 s, 3 min 10 s, 2 h 5 min, 3 d 4 h; a dash for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{int(milliseconds / 100) / 10:.1f} s"
    seconds = int(milliseconds // 1_000)
    for unit, size, below, below_size in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // below_size} {below}"
    return f"{seconds // 60} min {seconds % 60} s"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _carry_home(invocation: Invocation, envelope: dict[str, Any]) -> None:
    for action in envelope["next_actions"]:
        action["command"] = invocation.follow_up(action["command"])


def _draw_next(console: Console, next_actions: Sequence[Mapping[str, Any]]) -> None:
    if not next_actions:
        return
    console.print(text("next:", "dim"))
    width = max(len(action["command"]) for action in next_actions)
    for action in next_actions:
        line = f"  {action['command']:<{width}}  {action['description']}"
        console.print(text(line, "dim"), soft_wrap=True)
