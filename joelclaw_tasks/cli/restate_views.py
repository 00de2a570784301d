"""How Restate and its invocations look on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console


def status(found: Mapping[str, Any]) -> Callable[[Console], None]:
    """Deployments, and how many invocations are in which state."""

    def view(console: Console) -> None:
        counts = (
            ", ".join(f"{count} {state}" for state, count in found["invocations"].items()) or "nothing to do"
        )
        console.print(text("Restate is healthy", "green"), text(counts))
        drawn = table("deployment", "address", "services", "answers")
        for one in found["deployments"]:
            drawn.add_row(
                text(one["id"]), text(one["uri"]), text(", ".join(one["services"])),
                text("yes" if one["answers"] else "no", "" if one["answers"] else "red"),
            )  # fmt: skip
        console.print(drawn)
        if found["backlog"]:
            waiting = table("service", "handler", "state", "invocations", "oldest", numeric=("invocations",))
            for one in found["backlog"]:
                waiting.add_row(
                    *(text(one[name]) for name in ("service", "handler", "status", "many", "oldest"))
                )
            console.print(waiting)

    return view


def invocations(found: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """Invocations, one a line."""

    def view(console: Console) -> None:
        if not found:
            console.print(text("nothing to do"))
            return
        drawn = table("invocation", "target", "state", "since", "tries", "failure", numeric=("tries",))
        for one in found:
            drawn.add_row(
                text(one["id"]), text(one["target"]), text(one["status"]), text(one["created_at"]),
                text(one["tries"]), text(str(one["failure"] or "")[:200], "red"),
            )  # fmt: skip
        console.print(drawn)

    return view
