"""joelclaw dag: start a DAG of steps in Restate, look at it, cancel it, draw it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli import dag_views as views
from joelclaw_tasks.cli.command import carry_out, command, usage
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of
from joelclaw_tasks.cli.restate_parts import APPROVALS, RUNS, open_runs, status_action
from joelclaw_tasks.cli.steering import Reason
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from joelclaw_tasks.restate.plan import Plan
    from joelclaw_tasks.restate.runs import Runs

dag = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LOOKS_EVERY_S = 0.5
_OVER = ("completed", "failed", "cancelled", "refused")

File = Annotated[str, typer.Argument(help="A file with a plan in JSON; - reads it from stdin.")]
RunId = Annotated[str, typer.Argument(help="The id of a run.")]


@dag.callback()
def group(context: typer.Context) -> None:
    """DAGs of steps that outlive every crash: requests, jobs, approvals and waits."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@dag.command("run")
@command
def run(
    file: File,
    *,
    id: Annotated[str | None, typer.Option("--id", help="Its id; the same id starts it once.")] = None,
    wait_s: Annotated[
        float | None, typer.Option("--wait", min=0, help="Wait for its end, at most so many seconds.")
    ] = None,
) -> Outcome:
    """Check a plan, with all faults at once, and start it."""
    document, plan = _plan_in(file)
    with open_runs() as runs:
        run_id, sent = runs.start(document, id)
        result: dict[str, Any] = {
            "run": run_id, "invocation_id": sent.invocation_id, "nodes": len(plan.nodes)
        }  # fmt: skip
        actions = (status_action(run_id), NextAction(f"joelclaw dag cancel {run_id}", "stop it"), APPROVALS)
        if wait_s is None:
            said = f"started {run_id}: {len(plan.nodes)} steps"
            return Outcome(result, actions, lambda console: console.print(text(said)))
        found = _wait(runs, run_id, wait_s)
    return Outcome(result | {"status": found}, actions, views.run(found))


@dag.command("status")
@command
def status(run: RunId) -> Outcome:
    """What each step of a run does, since when, with which job, and why it failed."""
    with open_runs() as runs:
        found = runs.status(run)
    actions = [NextAction(f"joelclaw dag graph {run}", "draw it"), RUNS]
    if found["status"] == "running":
        actions.insert(0, NextAction(f"joelclaw dag cancel {run}", "stop it"))
        if any("question" in each and each["state"] == "running" for each in found["nodes"].values()):
            actions.insert(0, APPROVALS)
    return Outcome(found, actions, views.run(found))


@dag.command("list")
@command
def list_runs(
    *, most: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many.")] = 20
) -> Outcome:
    """The runs of the last week, the newest first."""
    with open_runs() as runs:
        found = runs.list(most)
    actions = (status_action(found[0]["run"]), APPROVALS) if found else (APPROVALS,)
    return Outcome({"runs": found}, actions, views.runs(found))


@dag.command("cancel")
@command
def cancel(run: RunId, *, reason: Reason = "", actor: Actor = None) -> Outcome:
    """Stop a run: what runs is cancelled, and what it did is taken back, the latest first."""
    by = actor_of(actor)
    with open_runs() as runs:
        runs.cancel(run, by=by, reason=reason)
    said = f"{run} stops, and takes back what it did"
    return Outcome(
        {"run": run, "by": by}, (status_action(run), RUNS), lambda console: console.print(text(said))
    )


@dag.command("graph")
@command
def graph(
    plan: Annotated[str, typer.Argument(help="A file with a plan, - for stdin, or the id of a run.")],
    *,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Only the text for Mermaid.")] = False,
) -> Outcome:
    """Draw a plan, or a run with the state of its steps: as text, and for Mermaid."""
    from joelclaw_tasks.restate.graph import as_mermaid, as_text
    from joelclaw_tasks.restate.plan import Plan

    states: dict[str, str] = {}
    if plan == "-" or Path(plan).is_file():
        _, drawn = _plan_in(plan)
    else:
        with open_runs() as runs:
            found = runs.status(plan)
        if not found["plan"]["nodes"]:
            raise CommandFailed(
                f"run {plan} was refused, and has no steps",
                code="DAG_INVALID",
                fix="`joelclaw dag status` lists the faults of its plan.",
                next_actions=(status_action(plan),),
            )
        drawn = Plan.model_validate_json(_as_json(found["plan"]))
        states = {id: str(node["state"]) for id, node in found["nodes"].items()}
    result = {"text": as_text(drawn, states), "mermaid": as_mermaid(drawn, states), "states": states}
    shown = result["mermaid"] if mermaid else result["text"]
    return Outcome(result, (RUNS,), lambda console: console.print(text(shown), soft_wrap=True))


def _plan_in(file: str) -> tuple[bytes, Plan]:
    from joelclaw_tasks.registry import Registry
    from joelclaw_tasks.restate.plan_faults import read_plan

    try:
        document = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise usage(
            f"{file} cannot be read: {error.strerror}", fix="Give a file with a plan in JSON, or -."
        ) from None
    return document, read_plan(document, Registry.load(current().settings().registry_dir))


def _wait(runs: Runs, run: str, wait_s: float) -> dict[str, Any]:
    ends_at = time.monotonic() + wait_s
    while True:
        found = runs.status(run)
        ended = sum(node["state"] not in ("waiting", "running") for node in found["nodes"].values())
        progress().say(f"{run}: {ended} of {len(found['nodes'])} steps have ended")
        if found["status"] in _OVER or time.monotonic() >= ends_at:
            return found
        time.sleep(_LOOKS_EVERY_S)


def _as_json(value: Any) -> str:
    import json

    return json.dumps(value)
