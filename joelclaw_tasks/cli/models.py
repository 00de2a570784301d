"""joelclaw models: which models may be asked, what they cost, and what they did cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_parts import open_store
from joelclaw_tasks.cli.terminal import line, table, text
from joelclaw_tasks.cli.tree import command_tree
from joelclaw_tasks.errors import CoreUnreachable

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.registry import Registry

models = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_COST = NextAction("joelclaw models cost", "what they cost today")
_LIST = NextAction("joelclaw models list", "the tiers, their prices and budgets")
_CHECK = NextAction("joelclaw registry check", "check registry/models.json with everything else")

Days = Annotated[int, typer.Option("--days", min=1, max=92, help="How many days (UTC), today included.")]


@models.callback()
def group(context: typer.Context) -> None:
    """The models that may be asked: tiers, prices, budgets, and what they cost."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@models.command("list")
@command
def list_models() -> Outcome:
    """The tiers: model, prices, bounds, and how much of the day's budget is left."""
    from joelclaw_tasks.core.spending import Spending
    from joelclaw_tasks.credentials import Credentials
    from joelclaw_tasks.intelligence.costs import spent_today

    settings = current().settings()
    tiers = _load().tiers
    spent: dict[str, int] | None = None
    try:
        spent = spent_today(Spending(open_store()))
    except CoreUnreachable:
        pass  # what is configured can be said without it
    rows = []
    for tier in tiers.values():
        used = None if spent is None else spent.get(tier.name, 0) / 1e9
        rows.append({**tier.to_wire(), "today_usd": used})
    has_key = bool(Credentials(settings.anthropic_api_key, settings.anthropic_api_key_file)())
    result = {
        "enabled": settings.use_models,
        "has_key": has_key,
        "asks": settings.use_models and has_key and bool(tiers),
        "tiers": rows,
    }
    return Outcome(result, (_COST, _CHECK), _list_view(result))


@models.command("cost")
@command
def cost(days: Days = 1) -> Outcome:
    """What the models cost, by tier, family and day; and what the cache saved."""
    from joelclaw_tasks.core.spending import Spending
    from joelclaw_tasks.intelligence.costs import cost_report

    tiers = _load().tiers
    result = cost_report(Spending(open_store()), tiers, days)
    longer = NextAction("joelclaw models cost --days 30", "the same for 30 days")
    return Outcome(result, (longer, _LIST) if days < 30 else (_LIST,), _cost_view(result))


def _load() -> Registry:
    from joelclaw_tasks.registry import Registry

    return Registry.load(current().settings().registry_dir)


def _list_view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        console.print(_headline(result))
        numbers = ("in", "out", "cache write", "cache read", "timeout", "budget", "today")
        listing = table("tier", "model", *numbers, "falls back to", numeric=numbers)
        for tier in result["tiers"]:
            prices = tier["usd_per_mtok"]
            priced = [f"{prices[name]:g}" for name in ("input", "output", "cache_write", "cache_read")]
            today = "-" if tier["today_usd"] is None else usd(tier["today_usd"])
            cells = [*priced, f"{tier['timeout_s']:g} s", usd(tier["daily_budget_usd"]), today]
            listing.add_row(
                text(tier["tier"], "bold"),
                text(tier["model"]),
                *map(text, cells),
                text(tier["fallback"] or "-"),
            )
        console.print(listing)
        console.print(text("prices in USD for a million tokens; budgets for a day (UTC)", "dim"))

    return view


def _headline(result: Mapping[str, Any]) -> Any:
    if not result["enabled"]:
        return text("models are switched off (JOELCLAW_USE_MODELS)", "yellow")
    if not result["has_key"]:
        return text("no key (ANTHROPIC_API_KEY): the fleet decides without models", "yellow")
    return text("models are asked", "green")


def _cost_view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        span = result["until"] if result["days"] == 1 else f"{result['from']} to {result['until']}"
        console.print(line(text(usd(result["cost_usd"]), "bold"), text(f"{span} (UTC)", "dim")))
        if result["held_usd"]:
            held = f"{usd(result['held_usd'])} more is set aside for calls without a known price"
            console.print(text(held, "yellow"))
        if result["saved_by_cache_usd"]:
            console.print(text(f"the cache saved {usd(result['saved_by_cache_usd'])}", "dim"))
        if result["saved_by_batch_usd"]:
            console.print(text(f"batches saved {usd(result['saved_by_batch_usd'])}", "dim"))
        _tiers(console, result)
        if result["families"]:
            listing = table("family", "cost", numeric=("cost",))
            for family in result["families"][:20]:
                listing.add_row(text(family["family"]), text(usd(family["cost_usd"])))
            console.print(listing)
        if result["days"] > 1:
            listing = table("day", "cost", numeric=("cost",))
            for day in result["by_day"]:
                if day["cost_usd"] or day["held_usd"]:
                    listing.add_row(text(day["day"]), text(usd(day["cost_usd"])))
            console.print(listing)

    return view


def _tiers(console: Console, result: Mapping[str, Any]) -> None:
    numbers = ("cost", "today", "budget", "calls", "answered", "in", "cached", "out")
    listing = table("tier", *numbers, "no answer", numeric=numbers)
    for tier in result["tiers"]:
        tokens = tier["tokens"]
        budget = "-" if tier["daily_budget_usd"] is None else usd(tier["daily_budget_usd"])
        cells = [usd(tier["cost_usd"]), usd(tier["today_usd"]), budget]
        counted = (
            tier["calls"], tier["answered"], tokens["input"] + tokens["cache_write"], tokens["cache_read"],
            tokens["output"],
        )  # fmt: skip
        cells += [f"{number:,}" for number in counted]
        reasons = ", ".join(f"{count} {reason}" for reason, count in tier["fallbacks"].items())
        listing.add_row(text(tier["tier"], "bold"), *map(text, cells), text(reasons or "-"))
    console.print(listing)


def usd(amount: float) -> str:
    """An amount of money for people: cents, and as many digits more as a small one needs."""
    if not amount:
        return "$0"
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.6f}".rstrip("0")
