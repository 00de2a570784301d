"""What a diagnosis looks like on a terminal, and in one line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import NextAction
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

LIST = NextAction("joelclaw diagnosis list", "what was diagnosed lately")
_EXHIBIT_MOST = 160
_STYLES = {"diagnosed": "green", "abstained": "yellow", "fallback": "yellow"}


def show_command(id: object) -> str:
    """The command line that shows a diagnosis."""
    return f"joelclaw diagnosis show {shlex.quote(str(id))}"


def verdict_actions(record: Mapping[str, Any]) -> list[NextAction]:
    """How to say what one thinks of it, when there is something to judge and nobody has."""
    if record["diagnosis"] is None or record["verdict"] is not None:
        return []
    return [
        NextAction(f"joelclaw diagnosis accept {record['id']}", "it was right"),
        NextAction(f"joelclaw diagnosis reject {record['id']}", "it was wrong"),
    ]


def line_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A diagnosis without its evidence, as lists show it."""
    found, subject = record["diagnosis"] or {}, record["evidence"]["subject"]
    best = next(iter(found.get("candidates") or ()), None)
    return {
        "id": record["id"],
        "at": record["at"],
        "state": record["state"],
        "actor": record["actor"],
        "why": record["why"],
        "subject": subject,
        "by": found.get("by"),
        "cause": best and best["cause"],
        "component": best and best["component"],
        "confidence": best and best["confidence"],
        "summary": found.get("summary"),
        "verdict": record["verdict"],
    }


def diagnoses_view(found: Sequence[Mapping[str, Any]]) -> Callable[[Console], None]:
    """One row for each."""

    def view(console: Console) -> None:
        if not found:
            console.print(text("nothing was diagnosed yet"))
            return
        listing = table("id", "when", "what fails", "likely cause", "sure", "verdict", numeric=("sure",))
        for each in found:
            cause = f"{_words(each['cause'])} in {each['component']}" if each["cause"] else each["state"]
            sure = "-" if each["confidence"] is None else f"{each['confidence']:.0%}"
            listing.add_row(
                text(each["id"], "bold"), text(clock_time(each["at"])), text(each["subject"]["name"]),
                text(cause), text(sure), text((each["verdict"] or {}).get("verdict", "-")),
            )  # fmt: skip
        console.print(listing)

    return view


def diagnosis_view(
    record: Mapping[str, Any], *, is_new: bool = True, only_cited: bool = False
) -> Callable[[Console], None]:
    """What is thought, on which grounds, and what to do; with all exhibits, or those that it rests on."""

    def view(console: Console) -> None:
        subject, found = record["evidence"]["subject"], record["diagnosis"]
        state = record["state"]
        console.print(
            line(
                text(record["id"], "bold"),
                text(subject["name"], "bold"),
                text(state, _STYLES.get(state, "dim")),
            )
        )
        if not is_new:
            console.print(text(f"made {clock_time(record['at'])}; --again asks anew", "dim"))
        if found is None:
            console.print(text(f"a model was asked at {clock_time(record['at'])}; there is no answer yet"))
            return
        console.print(text(found["summary"]))
        if found["by"] == "rules" and found["fallback"]:
            console.print(text(f"by fixed rules, for no model answered: {_why(found)}", "yellow"))
        elif found["by"] == "model":
            decision = found["decision"]
            cost, took = decision["cost_usd"], duration(decision["latency_ms"])
            console.print(text(f"by {decision['model']}, ${cost:.4f}, {took}", "dim"))
        if found["abstains_because"]:
            console.print(text(f"no cause is named: {found['abstains_because']}", "yellow"))
        _causes(console, found["candidates"])
        _said(console, found)
        cited = {id for part in (*found["candidates"], *found["tried"]) for id in part["evidence"]}
        _exhibits(console, record["evidence"], cited if only_cited and cited else None)
        verdict = record["verdict"]
        if verdict is not None:
            why = f": {verdict['reason']}" if verdict["reason"] else ""
            console.print(text(f"{verdict['verdict']} by {verdict['actor']}{why}", "bold"))

    return view


def _causes(console: Console, candidates: Sequence[Mapping[str, Any]]) -> None:
    for number, each in enumerate(candidates, 1):
        since = "" if each["onset_at"] is None else f" since {clock_time(each['onset_at'])}"
        said = f"{number}. {_words(each['cause'])} in {each['component']} ({each['confidence']:.0%}){since}"
        console.print(text(said, "bold"))
        console.print(text(f"   {each['because']} [{', '.join(each['evidence'])}]"))


def _said(console: Console, found: Mapping[str, Any]) -> None:
    for each in found["tried"]:
        console.print(text(f"tried: {each['what']} [{', '.join(each['evidence'])}]"))
    if found["proposed_fix"]:
        console.print(line(text("proposed:", "green"), text(found["proposed_fix"])))
    if found["would_confirm"]:
        console.print(line(text("would confirm it:", "green"), text(found["would_confirm"])))
    if found["proposed_diff"]:
        console.print(text("a change of the registry that nobody has made:", "green"))
        console.print(text(found["proposed_diff"]))


def _exhibits(console: Console, evidence: Mapping[str, Any], wanted: Collection[str] | None) -> None:
    shown_of = [each for each in evidence["exhibits"] if wanted is None or each["id"] in wanted]
    if not shown_of:
        return
    listing = table("evidence", "kind", "when", "what")
    for each in shown_of:
        shown = " ".join(each["text"].split())
        shown = shown if len(shown) <= _EXHIBIT_MOST else shown[: _EXHIBIT_MOST - 1] + "…"
        when = "-" if each["at"] is None else clock_time(each["at"])
        listing.add_row(text(each["id"]), text(_words(each["kind"])), text(when), text(shown))
    console.print(listing)
    more = len(evidence["exhibits"]) - len(shown_of)
    if more:
        console.print(text(f"{more} more exhibits are cited nowhere", "dim"))
    if evidence["omitted"]:
        console.print(text(f"{evidence['omitted']} more did not fit", "dim"))


def _why(found: Mapping[str, Any]) -> str:
    return f"{found['fallback']} ({found['detail']})" if found["detail"] else str(found["fallback"])


def _words(value: object) -> str:
    return str(value).replace("_", " ")
