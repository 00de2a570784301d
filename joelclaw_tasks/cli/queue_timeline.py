"""joelclaw queue timeline: every move of one job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import STATS, clock_time, inspect_command, open_store
from joelclaw_tasks.cli.terminal import line, text

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {
    "available": "green", "executing": "cyan", "retryable": "yellow", "discarded": "red",
    "completed": "bold green",
}  # fmt: skip
#: Shorter gaps are not worth a line.
_SHORTEST_GAP_MS = 10
#: Where the moves begin: left of it stands when they were made.
_MARGIN = 16


@command
def timeline(job_id: Annotated[str, typer.Argument(help="The id of a job.")]) -> Outcome:
    """Every move of one job: who made it, how long it waited and ran, and what for."""
    from joelclaw_tasks.core.explain import Explainer
    from joelclaw_tasks.core.states import Verb
    from joelclaw_tasks.errors import UnknownJob
    from joelclaw_tasks.telemetry.timeline import timeline as tell

    store = open_store()
    progress().say("reading the history")
    explained = Explainer(store).job(job_id)
    job_id = explained["id"]  # another one when the call was merged into it
    try:
        job = store.inspect(job_id)
    except UnknownJob:
        job = None
    moves = list(store.history.read(job=job_id, since_at=(job or {}).get("admitted_at", 0)))
    # To look for pauses in the whole stream takes longer than all the rest, and most jobs have met none.
    was_paused = any(span.get("gate", "").startswith("pause:") for span in explained["timeline"])
    acts = list(store.history.read(acts=True, verbs=[Verb.PAUSE])) if was_paused else []
    result = {
        "id": job_id,
        "family": explained["family"],
        "handler": explained["handler"],
        "merged_from": explained.get("asked_for"),
        "stream_first_at": store.history.extent().first_at,
        **tell(moves, explained["timeline"], acts, job, explained["asked_at"]),
    }
    actions = [NextAction(inspect_command(job_id), "everything known of it now")] if job else []
    return Outcome(result, (*actions, STATS), _view(result))


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        state = result["state"] or "unknown"
        console.print(line(text(result["id"], "bold"), text(state, _STYLES.get(state, ""))))
        names = [name for name in (result["family"], result["handler"]) if name]
        console.print(text(" → ".join(names), "dim"))
        if result["merged_from"]:
            console.print(text(f"{result['merged_from']} was merged into it", "yellow"))
        if not result["complete"]:
            console.print(text(_lost(result), "yellow"))
        moves = result["moves"]
        if moves:
            console.print(text(f"from {clock_time(moves[0]['at'])}", "dim"))
        for move in moves:
            _move(console, move, moves[0]["at"])
        totals = [f"{duration(ms)} {state}" for state, ms in result["totals"].items()]
        if len(totals) > 1:
            console.print(text(f"in all: {', '.join(totals)}", "dim"))

    return view


def _lost(result: Mapping[str, Any]) -> str:
    if result["stream_first_at"] is None:
        return "its moves are no longer kept: the stream is empty"
    return f"its first moves are no longer kept: the stream begins at {clock_time(result['stream_first_at'])}"


def _move(console: Console, move: Mapping[str, Any], began_at: int) -> None:
    """One move, then the stretch of time that follows it."""
    parts = [
        text(f"{'+' + duration(move['at'] - began_at):>{_MARGIN - 2}} ", "dim"),
        text(move["verb"], "bold"),
    ]
    if move["to"]:
        parts.append(text(f"→ {move['to']}", _STYLES.get(move["to"], "")))
    details = _details(move)
    console.print(line(*parts, *([text(details, "dim")] if details else [])))
    if move.get("reason"):
        lines = move["reason"].strip().splitlines()
        console.print(text(f"{'':>{_MARGIN}}{lines[-1] if lines else ''}", "yellow"))
    gap = move.get("gap")
    if gap is None or gap["ms"] < _SHORTEST_GAP_MS:
        return
    bar = f"{'':>{_MARGIN}}│ "
    console.print(text(f"{bar}{duration(gap['ms'])} {gap['spent']}{' so far' if gap['open'] else ''}"))
    for part in gap.get("parts", ()):
        console.print(
            text(f"{bar}  {duration(part['ms'])} {_place(part)}", "yellow" if "gate" in part else "dim")
        )
    told = {part.get("gate") for part in gap.get("parts", ())}
    if gap.get("parked") and gap["parked"]["gate"] not in told:
        console.print(text(f"{bar}  its lane is parked at {gap['parked']['gate']}", "yellow"))


def _place(part: Mapping[str, Any]) -> str:
    """Where a part of a wait was spent, and behind whom."""
    ahead = ", ".join(f"{count:,} {name}" for name, count in part.get("behind", {}).items())
    if "gate" not in part:
        return "in the queue" + (f", while {ahead} went first" if ahead else "")
    why = " (" + ": ".join(filter(None, (part["actor"], part["reason"]))) + ")" if part.get("actor") else ""
    return f"behind {part['gate']}{why}" + (f", while {ahead} passed it" if ahead else "")


def _details(move: Mapping[str, Any]) -> str:
    details = []
    if move.get("actor"):
        details.append(f"by {move['actor']}")
    if "priority" in move:
        details.append(f"P{move['priority']}")
    if move["verb"] == "claim" and move.get("holder"):
        details.append(f"on {move['holder']}")
    if (move.get("attempt") or 0) > 1:
        details.append(f"attempt {move['attempt']}")
    if move.get("due_at"):
        details.append(f"due in {duration(max(0, move['due_at'] - move['at']))}")
    if move.get("gate"):
        details.append(f"at {move['gate']}")
    # A claim says how long the job waited; what ends its run repeats that, and says how long it ran.
    if "run_ms" in move:
        details.append(f"ran {duration(move['run_ms'])}")
    elif "wait_ms" in move:
        details.append(f"waited {duration(move['wait_ms'])}")
    return " · ".join(details)
