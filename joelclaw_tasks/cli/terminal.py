"""The terminal: envelopes drawn for people, and written for programs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

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
    console.print(line(text("error", "bold red"), text(error["code"], "bold")))
    console.print(text(error["message"]))
    if failure.view is not None:
        failure.view(console)
    console.print(line(text("fix:", "green"), text(envelope["fix"])))
    _draw_next(console, envelope["next_actions"])


def write(document: str) -> bool:
    """One document and a newline on stdout; answers whether anybody is there to read. Raises OSError."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.write(document + "\n")
        sys.stdout.flush()
    except OSError as error:
        # The interpreter flushes stdout once more at exit and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"the answer could not be written: {error.strerror}\n")
            raise
        return False
    return True


def console_of(stream: str) -> Console:
    """A rich console of `stdout` or `stderr` that reads no markup in what it prints."""
    from rich.console import Console

    return Console(stderr=stream == "stderr", markup=False, highlight=False, emoji=False)


def text(value: object, style: str = "") -> Text:
    """Text for the terminal, in which control characters of strangers do nothing."""
    from rich.text import Text

    return Text(printable(value), style=style)


def line(*parts: Text) -> Text:
    """The parts in one line, each in its own style."""
    from rich.text import Text

    return Text(" ").join(parts)


def table(*columns: str, title: str | None = None, numeric: Sequence[str] = ()) -> Table:
    """An empty table in the house style; the columns named in `numeric` are right-aligned."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for position, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column in numeric else "left"
        # The first column names the thing: people copy it, so it stays in one piece.
        drawn.add_column(column, justify=justify, overflow="fold", no_wrap=position == 0)
    return drawn


def printable(value: object) -> str:
    """The value as text; control, format and surrogate characters are shown as escapes."""
    return "".join(
        each if each == "\n" or unicodedata.category(each) not in {"Cc", "Cf", "Cs"} else _escape(each)
        for each in str(value)
    )


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
        suggestion = f"  {action['command']:<{width}}  {action['description']}"
        console.print(text(suggestion, "dim"), soft_wrap=True)
