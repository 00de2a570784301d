"""joelclaw watch: tell the fleet which Markdown files change."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import printable, text

if TYPE_CHECKING:
    from rich.console import Console

_RULES = NextAction("joelclaw rules list", "by which rules the files are validated")
_DEPTH = NextAction("joelclaw queue depth", "how much is waiting, and for how long")


def watch(
    dirs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders (default: JOELCLAW_WATCH_DIRS, else content/ of the data directory)."),
    ] = None,
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Tell what changed since the last time, and end.")
    ] = False,
) -> Outcome:
    """Emit content/updated for every Markdown file that changes, until Ctrl-C; first for what was missed.

    What happens meanwhile is told on stderr; the counts come at the end.
    """
    from joelclaw_tasks.watch.run import roots_of
    from joelclaw_tasks.watch.run import watch as run

    progress().be_silent()
    settings = current().settings()
    roots = roots_of(settings, dirs or ())
    stop = threading.Event()

    def ask(_number: int, _frame: Any) -> None:
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    names = ", ".join(map(str, roots))
    try:
        counts = run(
            settings, roots, say=_say, stop=stop, once=once, on_ready=lambda: _say(f"watching {names}")
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    result: dict[str, Any] = {
        "dirs": [str(root) for root in roots],
        "emitted": counts.emitted,
        "unchanged": counts.unchanged,
        "waiting": counts.waiting,
        "problems": [
            {"path": path.encode("utf-8", "backslashreplace").decode(), "problem": why}
            for path, why in sorted(counts.problems.items())
        ],
    }

    def view(console: Console) -> None:
        console.print(text(f"{counts.emitted} changes told, {counts.unchanged} files saved unchanged"))
        if counts.waiting:
            console.print(text(f"{counts.waiting} wait for the next time", "yellow"))
        for problem in result["problems"]:
            console.print(text(f"{problem['path']}: {problem['problem']}", "yellow"))

    return Outcome(result, (_RULES, _DEPTH), view)


def _say(what: str) -> None:
    sys.stderr.write(f"watch: {printable(what)}\n")
    sys.stderr.flush()
