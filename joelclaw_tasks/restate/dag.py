"""Dag: the workflow that carries out a plan. Its key is the id of the run; docs/dag.md shows how it is used.

What a run does is kept in its state, which outlives it for a week: `plan`, `run` and `node/<id>`. People and
programs speak to it by its shared handlers: status, answer, cancel.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import restate

from joelclaw_tasks.restate.plan import Plan
from joelclaw_tasks.restate.plan_faults import PlanRefused, read_plan
from joelclaw_tasks.restate.references import BadReference, resolved
from joelclaw_tasks.restate.run import CANCEL, NODE_STATE, PLAN_STATE, RUN_STATE, Run, promise_of
from joelclaw_tasks.restate.steps import PATIENT, step_service
from joelclaw_tasks.restate.world import World

SERVICE = "Dag"
KEPT_FOR = timedelta(days=7)
_UNKNOWN, _REFUSED, _FAILED, _CANCELLED = 404, 400, 500, 409
#: What is answered to whoever calls it.
_OUTPUT_MOST_BYTES = 512 << 10


def dag_services(world: World) -> list[restate.Service | restate.Workflow]:
    """The workflow and the service of its steps."""
    steps, run_step, tell = step_service(world)
    dag = restate.Workflow(SERVICE, invocation_retry_policy=PATIENT)

    @dag.main(workflow_retention=KEPT_FOR)
    async def run(ctx: restate.WorkflowContext, document: Any) -> Any:
        """Carry out a plan; its output. Refused 400 with every fault, failed 500, cancelled 409."""
        # Kept: what was right when it began stays right, whatever the registry says later.
        refusal = await ctx.run_typed("check", lambda: _refusal(document, world))
        if refusal:
            ctx.set(PLAN_STATE, {"nodes": []})
            ctx.set(RUN_STATE, {"status": "refused", "reason": refusal})
            raise restate.TerminalError(refusal, status_code=_REFUSED)
        plan = Plan.model_validate_json(json.dumps(document))
        began_at = round(1_000 * await ctx.time())
        about: dict[str, Any] = {"name": plan.name, "status": "running", "began_at": began_at}
        ctx.set(PLAN_STATE, document)
        ctx.set(RUN_STATE, about)
        going = Run(ctx, plan, run_step, tell, began_at)
        await going.carry_out()
        return await _end(ctx, world, plan, going, about)

    @dag.handler()
    async def status(ctx: restate.WorkflowSharedContext) -> dict:  # type: ignore[type-arg]
        """What it does: `{run, name, status, began_at, ended_at, reason, plan, nodes: {id: …}}`."""
        about, document = await _of_run(ctx)
        ids = [node["id"] for node in document["nodes"]]
        futures = [ctx.get(f"{NODE_STATE}{id}", type_hint=dict) for id in ids]
        nodes = {id: await future or {"state": "waiting"} for id, future in zip(ids, futures, strict=True)}
        return {"run": ctx.key(), **about, "nodes": nodes, "plan": document}

    @dag.handler()
    async def answer(ctx: restate.WorkflowSharedContext, said: dict) -> dict:  # type: ignore[type-arg]
        """Answer an approval: `{node, approved, by, note}`. `{word: answered | before | not_open, answer}`.

        `before`: it was answered, or its time was over; the answer is that one, and nothing has changed.
        """
        await _of_run(ctx)
        node = str(said["node"])
        record = await ctx.get(f"{NODE_STATE}{node}", type_hint=dict)
        if record is None or "question" not in record:
            return {"word": "not_open", "answer": None}
        given = {
            "approved": bool(said["approved"]), "by": str(said["by"]), "note": str(said.get("note") or ""),
            "at": round(1_000 * await ctx.time()),
        }  # fmt: skip
        return await _resolve_once(ctx, promise_of(node), given, "answered")

    @dag.handler()
    async def cancel(ctx: restate.WorkflowSharedContext, said: dict) -> dict:  # type: ignore[type-arg]
        """Stop it, and take back what it did: `{by, reason}`. `{word: asked | before | over, answer}`."""
        about, _ = await _of_run(ctx)
        if about["status"] != "running":
            return {"word": "over", "answer": about}
        given = {"by": str(said["by"]), "reason": str(said.get("reason") or "")}
        return await _resolve_once(ctx, CANCEL, given, "asked")

    return [dag, steps]


async def _end(
    ctx: restate.WorkflowContext, world: World, plan: Plan, going: Run, about: dict[str, Any]
) -> Any:
    """Take back what a run did that has not completed, tell of its end, and answer its output."""
    status, reason, output = _outcome(plan, going)
    if status != "completed":
        ctx.set(RUN_STATE, {**about, "status": "undoing", "reason": reason})
        going.skip_rest()
        faults = await going.undo()
        about |= {"reason": reason} | ({"not_undone": faults} if faults else {})
    about |= {"status": status, "ended_at": round(1_000 * await ctx.time())}
    if plan.emits is not None:
        data = {"run": ctx.key(), **about, "output": output}
        event, event_id = plan.emits, f"dag:{ctx.key()}:ended"
        about["emitted"] = await ctx.run_typed("emit", lambda: world.emit(event, data, event_id))
    ctx.set(RUN_STATE, about)
    if status != "completed":
        raise restate.TerminalError(reason, status_code=_FAILED if status == "failed" else _CANCELLED)
    return output


def _refusal(document: Any, world: World) -> str:
    try:
        read_plan(json.dumps(document, ensure_ascii=False), world.emitter.registry)
    except PlanRefused as error:
        return str(error)
    return ""


def _outcome(plan: Plan, going: Run) -> tuple[str, str, Any]:
    """Status, reason and output of a run that does nothing more."""
    if going.stopped is not None:
        return (*going.stopped, None)
    try:
        output = resolved(plan.output, going.outputs)
    except BadReference as error:
        return "failed", f"output: {error}", None
    size = len(json.dumps(output))
    if size > _OUTPUT_MOST_BYTES:
        return "failed", f"output has {size:,} bytes; at most {_OUTPUT_MOST_BYTES:,} are answered", None
    return "completed", "", output


async def _of_run(ctx: restate.WorkflowSharedContext) -> tuple[dict[str, Any], dict[str, Any]]:
    about = await ctx.get(RUN_STATE, type_hint=dict)
    document = await ctx.get(PLAN_STATE, type_hint=dict)
    if about is None or document is None:
        raise restate.TerminalError("no run has this id", status_code=_UNKNOWN)
    return about, document


async def _resolve_once(
    ctx: restate.WorkflowSharedContext, name: str, given: dict[str, Any], word: str
) -> dict[str, Any]:
    promise = ctx.promise(name, type_hint=dict)
    before = await promise.peek()
    if before is None:
        try:
            await promise.resolve(given)
            return {"word": word, "answer": given}
        except restate.TerminalError:  # somebody else was quicker
            before = await promise.peek()
    return {"word": "before", "answer": before}
