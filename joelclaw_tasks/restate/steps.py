"""DagStep: one step of a DAG as an invocation of its own, with its own journal, tries and cancelling.

A task step admits a job whose id is derived from run, step and try, and then looks for its end: a look of up
to 20 s in this process, then a sleep in Restate, longer each time. Nobody has to tell it. So it is right when
the worker, this service, Restate or Redis is killed at any moment, and when a person cancels the job; an
awakeable would hang for ever when the one who resolves it dies between the end of the job and telling of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import restate

from joelclaw_tasks.restate.plan import Retries
from joelclaw_tasks.restate.world import World

SERVICE = "DagStep"
#: Until it is tried again by Restate itself, after a crash of this service or while Redis is away.
PATIENT = restate.InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    exponentiation_factor=2.0,
    max_interval=timedelta(seconds=5),
    max_attempts=1_000_000,  # refused connections count: a service that is away for hours loses nothing
    on_max_attempts="pause",
)
_CANCELLED = 409
_LOOK_S, _STOPS_WITHIN_S = 20.0, 300.0
_FIRST_SLEEP_S, _LAST_SLEEP_S, _GROWTH = 0.5, 30.0, 1.6

Handler = Callable[..., Any]


def step_service(world: World) -> tuple[restate.Service, Handler, Handler]:
    """The service, its handler `run` of a step, and its handler `tell` of what people should know."""
    service = restate.Service(SERVICE, ingress_private=True, invocation_retry_policy=PATIENT)

    @service.handler()
    async def run(ctx: restate.Context, asked: dict) -> Any:  # type: ignore[type-arg]
        """Carry out a step: `{run, id, step, retries}`; its output. Fails for good after its tries."""
        retries = Retries.model_validate(asked["retries"])
        once = _job if asked["step"]["type"] == "task" else _request
        tried = 0
        while True:
            tried += 1
            done = await once(ctx, world, asked, tried)
            if "output" in done:
                return done["output"]
            if tried > retries.max or not done["again"]:
                times = f" ({tried} tries)" if tried > 1 else ""
                raise restate.TerminalError(f"{done['error']}{times}")
            await ctx.sleep(timedelta(seconds=retries.wait_s(tried)))

    @service.handler()
    async def tell(ctx: restate.Context, asked: dict) -> None:  # type: ignore[type-arg]
        """Tell people that an approval is asked for, or was answered."""
        say = world.tell_approval if "question" in asked else world.tell_answer
        await ctx.run_typed("tell", lambda: say(asked))

    return service, run, tell


async def _request(ctx: restate.Context, world: World, asked: dict[str, Any], tried: int) -> dict[str, Any]:
    async def ask() -> Any:
        return await world.request(f"{asked['run']}/{asked['id']}", asked["step"])

    del tried  # the same key each time: the server may know that it has done it
    answer: dict[str, Any] = await ctx.run_typed("request", ask)
    return answer


async def _job(ctx: restate.Context, world: World, asked: dict[str, Any], tried: int) -> dict[str, Any]:
    """A job of the step's handler, and how it ended: `{output}` or `{error, again}`."""
    event_id = f"dag:{asked['run']}:{asked['id']}:{tried}"
    admitted: Any = await ctx.run_typed("admit", lambda: world.admit(event_id, asked["step"]))
    if "error" in admitted:
        return {"error": admitted["error"], "again": False}
    job_id = admitted["job"]
    try:
        end = await _end_of(ctx, world, job_id)
    except restate.TerminalError as error:
        if error.status_code != _CANCELLED:
            raise
        end = await _stopped(ctx, world, job_id, f"run {asked['run']} was stopped")
        if end["state"] != "completed":
            raise
    if end["state"] == "completed":
        left_out = {name: end[name] for name in ("left_out_bytes",) if name in end}
        return {"output": {"job": job_id, "result": end["result"], **left_out}}
    said = {
        "discarded": f"job {job_id} is in the dead letter: {end.get('error') or 'no reason given'}",
        "cancelled": f"job {job_id} was cancelled",
        "missing": f"Redis knows nothing of job {job_id} any more",
        None: f"job {job_id} has not stopped",
    }[end["state"]]
    return {"error": said, "again": end["state"] == "discarded"}


async def _stopped(ctx: restate.Context, world: World, job_id: str, reason: str) -> dict[str, Any]:
    """Cancel a job and wait for its end: who takes a step back must not do so while its job still runs."""
    while True:
        try:
            await ctx.run_typed("cancel", lambda: world.cancel(job_id, reason))
            return await _end_of(ctx, world, job_id, within_s=_STOPS_WITHIN_S)
        except restate.TerminalError as error:  # cancelled again, by the run and by Restate
            if error.status_code != _CANCELLED:
                raise


async def _end_of(
    ctx: restate.Context, world: World, job_id: str, within_s: float | None = None
) -> dict[str, Any]:
    sleep_s, waited_s = _FIRST_SLEEP_S, 0.0

    async def look() -> Any:
        return await world.watch.end_of(job_id, _LOOK_S)

    while True:
        end: dict[str, Any] = await ctx.run_typed("look", look)
        waited_s += _LOOK_S
        if end["state"] is not None or (within_s is not None and waited_s >= within_s):
            return end
        await ctx.sleep(timedelta(seconds=sleep_s))
        sleep_s = min(_LAST_SLEEP_S, sleep_s * _GROWTH)
