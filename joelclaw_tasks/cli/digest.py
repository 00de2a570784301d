"""joelclaw digest: what happened in each window of time, told in one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import clock_time, open_store
from joelclaw_tasks.cli.terminal import table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.routines.digest.digests import Digests
    from joelclaw_tasks.routines.digest.window import Window

digest = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw digest list", "the windows that are closed")

WindowName = Annotated[
    str, typer.Argument(metavar="<window>", help="2026-11-28 (a day), 2026-11-28T07 (an hour), in UTC.")
]


@digest.callback()
def group(context: typer.Context) -> None:
    """What happened in each window of time: list the pages, show one, make one."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@digest.command("list")
@command
def list_digests(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="Most windows listed.")] = 24,
) -> Outcome:
    """The windows that are closed, the newest first: by whom, how long it took, what it cost."""
    records = sorted(_digests().records.all().values(), key=lambda record: -record.start_at)
    result = {"count": len(records), "digests": [record.to_wire() for record in records[:limit]]}
    actions = [_show(record.window) for record in records[:1] if record.path] or [_run("<window>")]
    return Outcome(result, tuple(actions), _list_view(result))


@digest.command("show")
@command
def show(window: WindowName) -> Outcome:
    """The page of a window."""
    found, digests = _window(window), _digests()
    record = digests.records.get(found.name)
    if record is None or record.path is None:
        said = "nothing happened in it" if record else "it is not closed"
        raise CommandFailed(
            f"{found.name} has no page: {said}",
            code="DIGEST_NOT_THERE",
            fix="`joelclaw digest run --window` makes one of what is still in the stream.",
            next_actions=(_LIST, _run(found.name)),
        )
    try:
        page = Path(record.path).read_text("utf-8")
    except OSError as error:
        raise CommandFailed(
            f"the page of {found.name} cannot be read: {error.strerror}",
            code="DIGEST_UNREADABLE",
            fix="It is on the machine whose worker made it, or was moved away; --again makes it anew.",
            next_actions=(_run(found.name),),
        ) from None
    return Outcome({**record.to_wire(), "page": page}, (_LIST,), lambda console: console.print(text(page)))


@digest.command("run")
@command
def run(
    window: Annotated[
        str, typer.Option("--window", "-w", help="As for show; it may be one that has not ended.")
    ],
    *,
    again: Annotated[bool, typer.Option("--again", help="Make its page anew, though it is there.")] = False,
    model: Annotated[bool, typer.Option("--model", help="Ask a model now; without it, fixed rules.")] = False,
) -> Outcome:
    """Close a window here and now."""
    from joelclaw_tasks.routines.digest.digests import NotYet

    found, digests = _window(window), _digests()
    if again:
        digests.records.forget(found.name)
        digests.path(found).unlink(missing_ok=True)
    progress().say("reading the stream")
    made = digests.close(found, "model" if model else "rules")
    assert not isinstance(made, NotYet)  # only a batch is waited for
    actions = (_show(found.name), _LIST) if made.path else (_LIST,)
    said = f"{made.window}: {made.path or 'nothing happened'}"
    return Outcome(made.to_wire(), actions, lambda console: console.print(text(said)))


@digest.command("compare")
@command
def compare(
    day: Annotated[str, typer.Argument(metavar="<day>", help="Such as 2026-11-28, in UTC.")],
) -> Outcome:
    """A day told window by window, against the same day told in one step: latency, retries, cost."""
    from joelclaw_tasks.routines.digest.comparison import compare as compared
    from joelclaw_tasks.routines.digest.window import DAY_MS, UnknownWindow

    found = _window(day)
    if found.end_at - found.start_at != DAY_MS:
        raise UnknownWindow(f"{day!r:.60} is not a day")
    result = compared(found, _digests().records.all().values())
    actions = (_LIST,) if result["single_step"] else (_run(found.name), _LIST)
    return Outcome(result, actions, _compare_view(result))


def _digests() -> Digests:
    from joelclaw_tasks.fleet.digesting import digests_of
    from joelclaw_tasks.registry import Registry

    settings = current().settings()
    return digests_of(open_store(), settings, Registry.load(settings.registry_dir))


def _window(name: str) -> Window:
    from joelclaw_tasks.routines.digest.window import Window

    return Window.of_name(name)


def _show(window: str) -> NextAction:
    return NextAction(f"joelclaw digest show {window}", "its page")


def _run(window: str) -> NextAction:
    params = {"window": {"description": "a day or an hour", "required": True}} if "<" in window else {}
    return NextAction(f"joelclaw digest run --window {window}", "make its page now", params)


def _list_view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        listed = table("window", "jobs", "by", "made", "took", "cost", numeric=("jobs", "took", "cost"))
        for each in result["digests"]:
            by = f"{each['by']} ({each['fallback']})" if each["fallback"] else each["by"]
            listed.add_row(
                text(each["window"], "bold"),
                text(f"{each['jobs']:,}"),
                text("nothing happened" if each["state"] == "empty" else by),
                text(clock_time(each["made_at"])),
                text(duration(each["took_ms"])),
                text(f"${each['cost_usd']:.4f}" if each["cost_usd"] else "-"),
            )
        console.print(listed)

    return view


_ROWS = (
    ("pages", "pages", str), ("empty", "windows in which nothing happened", str), ("jobs", "jobs told", str),
    ("after_end_p50_ms", "made after its end, p50", duration),
    ("after_end_max_ms", "made after its end, most", duration),
    ("age_ms", "mean age of what is told", duration), ("longest_took_ms", "longest attempt", duration),
    ("retries", "retries", str), ("repeated_jobs", "jobs summed up again", str),
    ("by_rules", "pages by rules", str), ("tokens", "tokens", str), ("cost_usd", "cost, $", str),
)  # fmt: skip


def _compare_view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        listed = table(result["day"], "window by window", "in one step")
        for name, label, shown in _ROWS:
            cells = [
                "-" if told is None or told[name] is None else shown(told[name])
                for told in (result["windows"], result["single_step"])
            ]
            listed.add_row(text(label), *(text(cell) for cell in cells))
        console.print(listed)

    return view
