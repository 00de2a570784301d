"""How runs of DAGs look on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"completed": "green", "failed": "red", "refused": "red", "running": "cyan", "undoing": "yellow"}


def run(found: Mapping[str, Any]) -> Callable[[Console], None]:
    """A run and its steps."""

    def view(console: Console) -> None:
        status = found["status"]
        counts = Counter(str(node["state"]) for node in found["nodes"].values())
        steps = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        console.print(
            text(f"{found['run']}: {status}", f"bold {_STYLES.get(status, '')}".strip()), text(steps)
        )
        if found.get("reason"):
            console.print(text(found["reason"], "red"))
        for fault in found.get("not_undone", ()):
            console.print(text(fault, "red"))
        drawn = table("step", "state", "type", "took", "what")
        for id, node in found["nodes"].items():
            state = str(node["state"])
            drawn.add_row(
                text(id), text(state, _STYLES.get(state, "")), text(node.get("type", "")), text(_took(node)),
                text(_what(node)),
            )  # fmt: skip
        console.print(drawn)

    return view


def runs(found: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """Runs, one a line."""

    def view(console: Console) -> None:
        if not found:
            console.print(text("no run in the last week"))
            return
        drawn = table("run", "plan", "status", "began", "reason")
        for one in found:
            status, began_at = str(one.get("status")), one.get("began_at")
            drawn.add_row(
                text(one["run"]), text(one.get("name", "")), text(status, _STYLES.get(status, "")),
                text(clock_time(began_at) if began_at else ""), text(str(one.get("reason", ""))[:120]),
            )  # fmt: skip
        console.print(drawn)

    return view


def approvals(found: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """What waits for an answer."""

    def view(console: Console) -> None:
        if not found:
            console.print(text("nothing waits for an answer"))
            return
        drawn = table("run", "step", "question", "until", "then")
        for one in found:
            drawn.add_row(
                text(one["run"]), text(one["node"], "bold"), text(one["question"]),
                text(clock_time(one["until_at"])), text(one["on_timeout"]),
            )  # fmt: skip
        console.print(drawn)

    return view


def _took(node: Mapping[str, Any]) -> str:
    if "began_at" not in node or "ended_at" not in node:
        return ""
    return duration(node["ended_at"] - node["began_at"])


def _what(node: Mapping[str, Any]) -> str:
    if node.get("error"):
        return str(node["error"])
    answer = node.get("answer")
    if answer:
        return f"{'approved' if answer['approved'] else 'denied'} by {answer['by']}"
    if "question" in node:
        return f"{node['question']} (until {clock_time(node['until_at'])}, then {node['on_timeout']})"
    undo = f"undo: {node['undo']}  " if "undo" in node else ""
    return undo + ("" if node.get("output") is None else str(node["output"])[:200])
