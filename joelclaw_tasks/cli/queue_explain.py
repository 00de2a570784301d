"""joelclaw queue explain: why it is not running, when it will, and where its time went."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.envelope import NextAction, Outcome
from joelclaw_tasks.cli.explain_view import family_view, job_view, jobs_view, summary_of
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import (
    DEPTH,
    inspect_command,
    open_store,
    resume_command,
    timeline_command,
)


@command
def explain(
    name: Annotated[
        str, typer.Argument(metavar="JOB|EVENT|FAMILY", help="The id of a job or an event, or a family.")
    ],
) -> Outcome:
    """Why it is not running, what would let it start, and when; or where its time went."""
    from joelclaw_tasks.core.explain import Explainer
    from joelclaw_tasks.steering.names import Names

    store = open_store()
    explainer = Explainer(store)
    progress().say("looking at gates, workers and history")
    known = explainer.knows(name)
    if known == "family":
        return _family(explainer.family(name))
    if known is None:
        candidates = Names(store, current().settings()).jobs_of_event(name)
        jobs = [job_id for job_id in candidates if explainer.knows(job_id)]
        if len(jobs) > 1:
            return _event(name, [explainer.job(job_id) for job_id in jobs])
        name = jobs[0] if jobs else name
    return _job(explainer.job(name))


def _job(answer: dict[str, Any]) -> Outcome:
    result = {"kind": "job", "summary": summary_of(answer), **answer}
    return Outcome(result, _actions(answer), job_view(result))


def _event(event_id: str, answers: list[dict[str, Any]]) -> Outcome:
    """Several jobs; what is asked for at the top is the answer of the one that starts first."""
    jobs = [{"kind": "job", "summary": summary_of(answer), **answer} for answer in answers]
    waiting = [job for job in jobs if job["estimated_start"] is not None]
    first = min(waiting, key=lambda job: job["estimated_start"]["at"] or float("inf"), default=jobs[0])
    result = {
        "kind": "event",
        "event_id": event_id,
        "summary": first["summary"],
        "waiting_on": first["waiting_on"],
        "estimated_start": first["estimated_start"],
        "jobs": jobs,
    }
    return Outcome(result, _actions(first), jobs_view(jobs))


def _family(answer: dict[str, Any]) -> Outcome:
    following = answer["next"]
    result = {
        "kind": "family",
        "summary": summary_of(following) if following else "nothing of it waits in a lane",
        **answer,
        "waiting_on": following["waiting_on"] if following else None,
        "estimated_start": following["estimated_start"] if following else None,
    }
    return Outcome(result, _actions(following) if following else (DEPTH,), family_view(result))


def _actions(answer: Mapping[str, Any]) -> tuple[NextAction, ...]:
    waits = answer["waiting_on"] or {}
    actions = []
    if waits.get("kind") == "pause":
        actions.append(NextAction(resume_command(waits["gate"]), "open the gate that holds it"))
    behind = (answer.get("behind") or {}).get("first_of_its_lane")
    if behind and behind != answer["id"]:
        first = f"joelclaw queue explain {shlex.quote(behind)}"
        actions.append(NextAction(first, "the first job of its lane, which goes before it"))
    actions += [
        NextAction(timeline_command(answer["id"]), "every move of it"),
        NextAction(inspect_command(answer["id"]), "everything known of it, with its message"),
    ]
    return tuple(actions)
