"""A Restate service that counts its effects, so that a test can tell once from twice.

Each effect is a line that is appended to a file by `ctx.run`, and so is each begin of one: a step that was
interrupted begins again, and still has one effect only when Restate is asked once for each key.
Run as `python -m tests.restate.effects_service PORT FILE`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import hypercorn.asyncio
import hypercorn.config
import restate
from restate.server import install_shutdown_hook

effects = restate.Service("Effects", idempotency_retention=timedelta(days=1))
tally = restate.VirtualObject("Tally")
flow = restate.Workflow("Flow")


def note(line: str) -> None:
    with open(sys.argv[2], "a") as file:  # noqa: PTH123  # one write of O_APPEND: whole lines
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def noted() -> list[str]:
    return Path(sys.argv[2]).read_text().splitlines()


@effects.handler()
async def add(ctx: restate.Context, what: dict) -> dict:
    """One effect."""
    await ctx.run_typed("add", lambda: note(f"{what['name']}"))
    return {"added": what["name"]}


@effects.handler()
async def slowly(ctx: restate.Context, what: dict) -> dict:
    """One effect, after a while."""
    await ctx.sleep(timedelta(seconds=what["seconds"]))
    await ctx.run_typed("add", lambda: note(what["name"]))
    return {"added": what["name"]}


@effects.handler()
async def refuse(ctx: restate.Context, what: dict) -> None:
    """Fails for good, as with a wrong argument."""
    raise restate.TerminalError(what["message"], status_code=what["code"])


@effects.handler()
async def stumble(ctx: restate.Context, what: dict) -> dict:
    """Fails twice as code fails, and then has its effect."""
    if noted().count(f"stumbled {what['name']}") < 2:
        note(f"stumbled {what['name']}")
        raise RuntimeError("not yet")
    await ctx.run_typed("add", lambda: note(what["name"]))
    return {"added": what["name"]}


@effects.handler()
async def ping(ctx: restate.Context) -> str:
    """Takes nothing."""
    return "pong"


@effects.handler()
async def traced(ctx: restate.Context, what: dict) -> str | None:
    """The trace that the call came with."""
    return ctx.request().attempt_headers.get("traceparent")


@effects.handler()
async def wait_for(ctx: restate.Context, what: dict) -> dict:
    """Waits for an awakeable, whose id it notes."""
    name, future = ctx.awakeable(type_hint=dict)
    await ctx.run_typed("note", lambda: note(f"awakeable {what['name']} {name}"))
    return await future


@tally.handler()
async def add_to(ctx: restate.ObjectContext, what: dict) -> dict:
    """One effect, counted under the key."""
    count = (await ctx.get("count", type_hint=int) or 0) + 1
    ctx.set("count", count)
    await ctx.run_typed("add", lambda: note(f"{ctx.key()} {what['name']}"))
    return {"key": ctx.key(), "count": count}


@flow.main(workflow_retention=timedelta(days=1))
async def run(ctx: restate.WorkflowContext, what: dict) -> dict:
    """One effect, once a person has approved."""
    answer = await ctx.promise("approval", type_hint=dict).value() if what.get("approval") else {}
    await ctx.run_typed("add", lambda: note(what["name"]))
    return {"workflow": ctx.key(), "answer": answer}


@flow.handler()
async def approve(ctx: restate.WorkflowSharedContext, answer: dict) -> None:
    """The approval."""
    await ctx.promise("approval", type_hint=dict).resolve(answer)


async def serve(port: int) -> None:
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2_147_483_647
    config.keep_alive_max_requests = 2_147_483_647
    config.keep_alive_timeout = 2_147_483_647
    stop = asyncio.Event()
    # The SDK takes SIGTERM away from the server.
    install_shutdown_hook(asyncio.get_running_loop(), stop.set)
    app = restate.app(services=[effects, tally, flow])
    await hypercorn.asyncio.serve(app, config, mode="asgi", shutdown_trigger=stop.wait)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
