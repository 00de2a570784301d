"""joelclaw queue simulate: what a change would do to the queue as it is now."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command, usage
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.explain_view import between
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import DEPTH, clock_time, open_store
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.core.what_if import WhatIf
    from joelclaw_tasks.steering.names import Names

_SHOWN = 15

Pauses = Annotated[
    list[str], typer.Option("--pause", metavar="NAME", help="A family, handler or queue that is held back.")
]
Limits = Annotated[
    list[str], typer.Option("--limit", metavar="GATE=N", help="A limit, such as nas=5 or limit:handler/h=2.")
]
Arrivals = Annotated[
    list[str],
    typer.Option("--arrivals", metavar="FAMILY=RATE", help="Jobs that come in, a second on average."),
]


@command
def simulate(pause: Pauses = [], limit: Limits = [], arrivals: Arrivals = []) -> Outcome:  # noqa: B006 - typer's way
    """Play the queue forward under a change: when it drains, and who waits longer."""
    from joelclaw_tasks.core.what_if import Change, WhatIf
    from joelclaw_tasks.steering.names import Names

    limits = dict(_number(each, "--limit", int) for each in limit)
    expected = dict(_number(each, "--arrivals", float) for each in arrivals)
    if not (pause or limits or expected):
        example = "joelclaw queue simulate --pause content/updated --limit nas=5"
        raise usage(
            "nothing is to be tried", fix=f"Give --pause, --limit or --arrivals, such as `{example}`."
        )
    store = open_store(timeout_s=30)
    settings = current().settings()
    names = Names(store, settings)
    pauses = tuple(names.pause_gate(each) for each in pause)
    progress().say("reading lanes, gates, workers and history")
    what_if = WhatIf(store)
    change = Change(
        pauses,
        {_limit_gate(name, what_if, names): int(most) for name, most in limits.items()},
        {_family(name, what_if): float(rate) for name, rate in expected.items()},
    )
    progress().say("playing the queue forward")
    answer = what_if.simulate(change, settings.slack_ms[settings.default_priority])
    tried = {"pause": list(pauses), "limit": dict(change.limits), "arrivals": dict(change.arrivals)}
    result = {"change": tried, **answer}
    return Outcome(result, _actions(pauses), _view(result))


def _actions(pauses: Sequence[str]) -> tuple[NextAction, ...]:
    return (*(NextAction(f"joelclaw queue pause {shlex.quote(gate)}", "do it") for gate in pauses[:1]), DEPTH)


def _number(typed: str, option: str, kind: type[int] | type[float]) -> tuple[str, float]:
    name, equals, number = typed.rpartition("=")
    try:
        value = kind(number)
    except ValueError:
        value = kind(-1)
    if not (equals and name and 0 <= value <= 1e9):
        whole = "a whole number" if kind is int else "a number"
        raise usage(
            f"{option} must be a name, = and {whole}, not {typed!r}", fix=f"Write it like `{option} name=5`."
        )
    return name, value


def _limit_gate(typed: str, what_if: WhatIf, names: Names) -> str:
    """The limit gate that is meant; a handler without one gets its own. Raises UnknownTarget."""
    from joelclaw_tasks.errors import UnknownTarget

    in_use = {gate for gate in what_if.gates if gate.startswith("limit:")}
    found = {gate for gate in in_use if typed in (gate, gate.partition("/")[2])}
    if len(found) == 1:
        return found.pop()
    try:
        return names.bound_gate("limit", typed)
    except UnknownTarget:
        own = f"limit:handler/{typed.removeprefix('limit:handler/')}"
        if own in {f"limit:handler/{lane.runs_of}" for lane in what_if.lanes}:
            return own
        raise


def _family(typed: str, what_if: WhatIf) -> str:
    families = {lane.family for lane in what_if.lanes}
    if typed in families:
        return typed
    near = difflib.get_close_matches(typed[:120], sorted(families), n=1, cutoff=0.0)
    hint = f"; the nearest name is {near[0]!r}" if near else ""
    raise CommandFailed(
        f"no family that waits or runs now is named {typed[:120]!r}{hint}",
        code="QUEUE_FAMILY_UNKNOWN",
        fix="Only what waits or runs shows in which lanes its jobs come in: `joelclaw queue depth` lists it.",
        next_actions=(DEPTH,),
    )


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        counts = f"{result['waiting']:,} waiting, {result['running']:,} running, {result['slots']:,} at once"
        console.print(line(text(_tried(result["change"]), "bold"), text(counts, "dim")))
        for name, label in (("baseline", "as it is"), ("changed", "with it")):
            console.print(line(text(f"{label:<9}", "dim"), text(_drain(result[name]))))
        waits = ("now", "with it", "longer", "p95 now", "p95 with it", "left over")
        listing = table("family", *waits, numeric=waits)
        for each in result["families"][:_SHOWN]:
            before, after, longer = each["baseline"], each["changed"], each["longer_ms"]
            worse = after["left"] > before["left"] or (longer or 0) > 0
            signed, style = (
                f"{'+' if worse else '-'}{duration(abs(longer or 0))}",
                "yellow" if worse else "green",
            )
            if longer is None or abs(longer) < max(10, (before["mean_wait_ms"] or 0) / 50):
                signed, style = (
                    "-" if longer is None else "same",
                    "yellow" if worse and longer is None else "dim",
                )
            waited = [duration(each[which]["mean_wait_ms"]) for which in ("baseline", "changed")]
            worst = [duration(each[which]["p95_wait_ms"]) for which in ("baseline", "changed")]
            listing.add_row(
                text(each["family"]), *map(text, waited), text(signed, style), *map(text, worst),
                text(after["left"] or "-"),
            )  # fmt: skip
        if result["families"]:
            console.print(listing)
        for sentence in _error(result):
            console.print(text(sentence, "dim"))

    return view


def _tried(change: Mapping[str, Any]) -> str:
    parts = [f"pause {gate}" for gate in change["pause"]]
    parts += [f"limit {gate} to {most}" for gate, most in change["limit"].items()]
    parts += [f"{rate:g} {family} a second" for family, rate in change["arrivals"].items()]
    return ", ".join(parts)


def _drain(drain: Mapping[str, Any]) -> str:
    if drain["drained_ms"] is None:
        left = f"{sum(drain['left'].values()):,} of the jobs that wait now"
        if drain["is_stuck"]:
            return f"never drained: {left} do not start, however long one waits"
        return f"not drained: {left} have not started after {duration(drain['looked_ahead_ms'])}"
    spread = between(drain["earliest_ms"], drain["latest_ms"])
    return f"drained in {duration(drain['drained_ms'])}{spread}, at {clock_time(drain['drained_at'])}"


def _error(result: Mapping[str, Any]) -> list[str]:
    error = result["error"]
    runs = f"{error['runs']} simulated runs of each, drawn from {error['measured_runs']:,} measured ones"
    said = [f"waits count from now; {runs}; a range is the spread of the runs"]
    if error["unmeasured"]:
        said.append(
            f"no run was measured of {', '.join(error['unmeasured'][:5])}: those of the others stand in"
        )
    if not error["is_whole"]:
        said.append(
            f"only {error['played']:,} of {result['waiting']:,} jobs were played; the rest is scaled up"
        )
    return said
