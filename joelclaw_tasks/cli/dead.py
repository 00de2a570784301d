"""joelclaw dead: what failed for good, by failure; bring it back, or delete it."""

from __future__ import annotations

import itertools
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.dead_selection import (
    LIST,
    All,
    DeadSelection,
    Family,
    Handler,
    Ids,
    Signature,
    Where,
    nothing_selected,
)
from joelclaw_tasks.cli.dead_views import dead_job_view, dead_jobs_view, groups_view
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import Progress, progress
from joelclaw_tasks.cli.queue_parts import DEPTH, Actor, actor_of, inspect_command, open_store
from joelclaw_tasks.cli.revival import Revival, parse_rate
from joelclaw_tasks.cli.steering import DryRun, Reason, Yes, confirm, may_ask, until_interrupted
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store

_SHOWN = 5
_AT_ONCE = 500

dead = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)


@dead.callback()
def group(context: typer.Context) -> None:
    """See what failed for good and why; bring it back, or delete it."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@dead.command("list")
@command
def list_dead(
    *,
    jobs: Annotated[bool, typer.Option("--jobs", help="Single jobs, the newest first, not groups.")] = False,
    signature: Signature = None,
    family: Family = None,
    handler: Handler = None,
    where: Where = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many at most.")] = 20,
) -> Outcome:
    """What is in the dead letter: what failed alike together, or (any option) single jobs."""
    store = open_store()
    selection = DeadSelection(None, signature, family, handler, where)
    if jobs or selection.is_filter:
        return _list_jobs(store, selection, limit)
    groups, count = store.dead.groups(limit), store.dead.count()
    actions = [
        action
        for one in groups[:1]
        for action in (
            NextAction(f"joelclaw dead show {shlex.quote(one['sample'])}", "its traceback and its message"),
            NextAction(
                f"joelclaw dead revive --signature {one['signature']} --sample 1", "try one of them again"
            ),
        )
    ]
    view = groups_view(groups, count, store.now_ms())
    return Outcome({"count": count, "groups": groups}, (*actions, DEPTH), view)


def _list_jobs(store: Store, selection: DeadSelection, limit: int) -> Outcome:
    if selection.is_filter:
        found = list(selection.jobs(store))
        count, shown = len(found), found[::-1][:limit]
    else:
        count, shown = store.dead.count(), list(store.dead.jobs(store.dead.ids()[: -limit - 1 : -1]))
    actions = [
        NextAction(f"joelclaw dead show {shlex.quote(one['id'])}", "its traceback and its message")
        for one in shown[:1]
    ]
    result = {"count": count, "jobs": shown}
    return Outcome(result, (*actions, LIST), dead_jobs_view(shown, store.now_ms()))


@dead.command("show")
@command
def show(job_id: Annotated[str, typer.Argument(help="The id of a dead job.")]) -> Outcome:
    """One dead job: its error, traceback, message, and how often it was tried."""
    job = open_store().inspect(job_id)
    if job["state"] != "discarded":
        raise CommandFailed(
            f"{job_id} is {job['state']}, not in the dead letter",
            code="JOB_WRONG_STATE",
            fix="`joelclaw queue inspect <id>` shows a job in any state.",
            next_actions=(NextAction(inspect_command(job_id), "everything known of it"), LIST),
        )
    quoted = shlex.quote(job_id)
    actions = (
        NextAction(f"joelclaw dead revive {quoted}", "run it again, as new"),
        NextAction(f"joelclaw dead list --signature {job['signature']}", "all that failed like it"),
    )
    return Outcome({"job": job}, actions, dead_job_view(job))


@dead.command("revive")
@command
def revive(
    ids: Ids = None,
    *,
    signature: Signature = None,
    family: Family = None,
    handler: Handler = None,
    where: Where = None,
    everything: All = False,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Only this many of them, the newest: try first.")
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", help="No faster than 10/s, 100/m or 5000/h.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Run dead jobs again, as new: all their retries are given back."""
    by, per_s = actor_of(actor), parse_rate(rate) if rate is not None else None
    selection = DeadSelection(ids, signature, family, handler, where, everything)
    store, found = _found(selection)
    refused = [job["id"] for job in found if job["refused"]]
    found = [job for job in found if not job["refused"]]
    if not found:
        raise CommandFailed(
            f"none of them could ever run: {len(refused)} message(s) that no worker can read",
            code="JOB_WRONG_STATE",
            fix="Mend what sends them; `joelclaw dead purge` deletes them.",
            details={"refused": refused[:20]},
        )
    chosen = found if sample is None else found[-sample:]
    counts = {"selected": len(found) + len(refused), "refused": len(refused)}
    if dry_run:
        return _would("revive", chosen, counts)
    if not yes and may_ask():
        confirm("revive", len(chosen), "dead jobs", selection.options().strip())
    revival = Revival(store, [job["id"] for job in chosen], actor=by, reason=reason, per_s=per_s)
    _run(revival, selection, rate)
    left = len(found) - len(revival.revived) - revival.gone
    counts |= {"revived": len(revival.revived), "gone": revival.gone, "left": left}
    return Outcome(
        {**counts, "ids": revival.revived[:20], "dry_run": False},
        _after_revival(revival, selection, left),
        lambda console: console.print(text(f"revived {counts['revived']}, {left} left", "green")),
    )


@dead.command("purge")
@command
def purge(
    ids: Ids = None,
    *,
    signature: Signature = None,
    family: Family = None,
    handler: Handler = None,
    where: Where = None,
    everything: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Delete dead jobs, with their messages; the transitions stream keeps who did it and why."""
    by = actor_of(actor)
    selection = DeadSelection(ids, signature, family, handler, where, everything)
    store, found = _found(selection)
    if dry_run:
        return _would("purge", found, {"selected": len(found)})
    if not yes:
        if not may_ask():
            raise usage(
                f"purge deletes {len(found)} job(s) for good, and there is nobody to ask",
                fix="Look with --dry-run, then run it again with --yes.",
            )
        confirm("purge for good", len(found), "dead jobs", selection.options().strip())
    # What failed again after it was seen here is not what was meant.
    until_ms = max(job["discarded_at"] for job in found)
    purged = 0
    for start in range(0, len(found), _AT_ONCE):
        page = [job["id"] for job in found[start : start + _AT_ONCE]]
        words = store.purge(page, actor=by, reason=reason, until_ms=until_ms)
        purged += sum(word == "PURGED" for word in words)
        progress().say(f"purged {purged} of {len(found)}")
    return Outcome(
        {"selected": len(found), "purged": purged, "dry_run": False},
        (LIST, DEPTH),
        lambda console: console.print(text(f"purged {purged}")),
    )


def _found(selection: DeadSelection) -> tuple[Store, list[dict[str, Any]]]:
    selection.require_one_way()
    store = open_store()
    found = list(selection.jobs(store))
    if not found:
        raise nothing_selected(store, selection)
    return store, found


def _would(verb: str, found: list[dict[str, Any]], counts: dict[str, int]) -> Outcome:
    """The answer of a dry run: how many of what, and a few of them."""
    by_signature = {
        signature: len(list(jobs))
        for signature, jobs in itertools.groupby(sorted(job["signature"] or "" for job in found))
    }
    result = {
        **counts, f"would_{verb}": len(found), "dry_run": True, "signatures": by_signature,
        "sample": found[-_SHOWN:][::-1],
    }  # fmt: skip
    return Outcome(result, (LIST,), lambda console: console.print(text(f"would {verb} {len(found)} job(s)")))


def _run(revival: Revival, selection: DeadSelection, rate: str | None) -> None:
    """Revive; Ctrl-C and a Redis that goes away end it, with what was done said."""
    from joelclaw_tasks.errors import CoreUnreachable

    again = f"joelclaw dead revive{selection.options()}{f' --rate {rate}' if rate else ''}"
    try:
        with until_interrupted() as stop, Progress(shown=not current().as_json) as shown:
            revival.run(stop, shown.say)
    except CoreUnreachable as error:
        if not revival.revived:
            raise
        why, code, fix, exit_code = str(error), error.code, error.fix, ExitCode.UNREACHABLE
    else:
        if not revival.left:
            return
        why, code, exit_code = "interrupted", "DEAD_REVIVE_STOPPED", ExitCode.INTERRUPTED
        fix = "Nothing is half done: run it again to go on with the rest."
    raise CommandFailed(
        f"{why}; {len(revival.revived)} were revived before, {revival.left} are left",
        code=code,
        fix=fix,
        exit_code=exit_code,
        details={"revived": len(revival.revived), "gone": revival.gone, "left": revival.left},
        next_actions=(*_typed(again, "go on with the rest"), LIST),
    )


def _after_revival(revival: Revival, selection: DeadSelection, left: int) -> tuple[NextAction, ...]:
    actions = [NextAction(inspect_command(job_id), "what became of it") for job_id in revival.revived[-1:]]
    if left:
        go_on = f"joelclaw dead revive{selection.options()} --rate 10/s"
        actions += _typed(go_on, f"once it has run: the other {left}")
    return (*actions, LIST, DEPTH)


def _typed(line: str, description: str) -> list[NextAction]:
    """A command that can be run as it stands; one with a `<` in it would be read as a template."""
    return [] if "<" in line else [NextAction(line, description)]
