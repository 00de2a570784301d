"""joelclaw eval: how well the queue is operated and triaged, in played worlds, against an oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from joelclaw_tasks.settings import Settings

_OPERATORS = ("nothing", "static", "scripted", "live")

Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds make equal worlds.")]
Worlds = Annotated[
    int | None, typer.Option("--worlds", min=1, max=1_000, help="How many (default: 22, or 11 with --quick).")
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Each kind of world once; the scripted model in a few of them.")
]
Live = Annotated[
    bool,
    typer.Option("--live", help="Ask the models of the registry too: costs money, within their budgets."),
]


@command
def evaluate(seed: Seed = 1, worlds: Worlds = None, quick: Quick = False, live: Live = False) -> Outcome:
    """Play seeded worlds with faults on the real core; score operators and triage against an oracle."""
    from joelclaw_tasks.evaluation.report import evaluate as evaluation

    settings = current().settings()
    if live:
        _check_key(settings)
    result = evaluation(settings, seed=seed, worlds=worlds, quick=quick, live=live, say=progress().say)
    return Outcome(result, _next(seed, quick), _view(result))


def _check_key(settings: Settings) -> None:
    from joelclaw_tasks.credentials import Credentials

    key = Credentials(settings.anthropic_api_key, settings.anthropic_api_key_file)
    if settings.use_models and key():
        return
    raise CommandFailed(
        "--live asks real models, and there is no key for them"
        if settings.use_models
        else "--live asks real models, and models are switched off",
        code="EVAL_NO_KEY",
        fix="Set ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE, or leave --live out: nothing else needs a key.",
        next_actions=(
            NextAction("joelclaw eval", "evaluate without real models"),
            NextAction("joelclaw models list", "which models there are, and what is left of their budgets"),
        ),
    )


def _next(seed: int, quick: bool) -> tuple[NextAction, ...]:
    if quick:
        return (
            NextAction(f"joelclaw eval --seed {seed}", "each kind twice, with the scripted model in all"),
        )
    return (NextAction(f"joelclaw eval --seed {seed + 1}", "other worlds"),)


def _view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    observer, triage = result["observer"], result["triage"]

    def view(console: Console) -> None:
        names = [name for name in _OPERATORS if observer.get(name)]
        figures = (
            "worlds",
            "regret",
            "spared",
            "false pauses",
            "flaps",
            "wasted",
            "dead",
            "forbidden",
            "cost",
        )
        totals = table("operator", *figures, numeric=figures)
        for name in names:
            totals.add_row(text(name, "bold"), *map(text, _totals(observer[name])))
        console.print(totals)
        worlds = table("world", "jobs", "oracle", *names, numeric=("jobs", *names))
        for each in observer["worlds"]:
            regrets = [text(f"{each[name]['regret']:,.0f}" if name in each else "-") for name in names]
            worlds.add_row(
                text(each["world"]), text(each["jobs"]), text(each["oracle"]["plan"], "dim"), *regrets
            )
        console.print(worlds)
        scored = f"{triage['labelled']['events']} labelled events, {triage['labelled']['pairs']} pairs"
        tau = "-" if triage["tau"] is None else f"{triage['tau']:.2f}"
        console.print(line(text("triage"), text(f"tau {tau}", "bold"), text(f"({scored}, scripted model)")))
        if triage["live"] is not None:
            console.print(line(text("triage"), text(f"tau {triage['live']['tau']}", "bold"), text("(live)")))
        begged = (
            f"{triage['injections_outside_band']} of {triage['injections']} events that beg left their band"
        )
        console.print(line(text("triage"), text(begged)))
        console.print(_diagnosis(result["diagnosis"]))
        if result["day"] is not None:
            console.print(_day(result["day"]))
        for each in result["wanted"]:
            style = "green" if each["reached"] else "bold red"
            said = f"{each['figure']} {each['found']}, wanted {each['wanted']}"
            console.print(line(text("reached" if each["reached"] else "missed ", style), text(said)))
        console.print(text(f"regret in minutes beyond the oracle; {result['took_s']} s", "dim"))

    return view


def _diagnosis(figures: Mapping[str, Any]) -> Text:
    said = (
        f"first of {figures['incidents']} incidents {figures['ac1']:.0%}, among three {figures['ac3']:.0%}, "
        f"grounded {figures['grounded']:.0%}; {figures['made_up']} answers with made-up ids were refused"
    )
    return line(text("diagnosis"), text(said))


def _day(figures: Mapping[str, Any]) -> Text:
    said = (
        f"${figures['cost_usd']:.3f} for {figures['events']} events: triage ${figures['triage_usd']:.3f}, "
        f"observer ${figures['observer_usd']:.3f}, diagnosis ${figures['diagnosis_usd']:.3f}, "
        f"{figures['digests']} digests ${figures['digest_usd']:.3f}; "
        f"saved by the cache ${figures['saved_by_cache_usd']:.3f}, "
        f"by batches ${figures['saved_by_batch_usd']:.3f}, "
        f"by scoring together ${figures['saved_by_scoring_together_usd']:.3f}"
    )
    return line(text("day"), text(said))


def _totals(figures: Mapping[str, Any]) -> list[str]:
    cut, forbidden = figures["cut"], str(figures["forbidden_applied"])
    if figures["forbidden_proposed"]:
        forbidden += f" of {figures['forbidden_proposed']:,}"
    return [
        str(figures["worlds"]), f"{figures['regret']:,.0f}", "-" if cut is None else f"{cut:.0%}",
        str(figures["false_pauses"]), str(figures["flaps"]), f"{figures['wasted_attempts']:,}",
        str(figures["dead"]), forbidden, f"${figures['cost_usd']:.2f}" if "cost_usd" in figures else "-",
    ]  # fmt: skip
