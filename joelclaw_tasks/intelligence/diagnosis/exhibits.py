"""Exhibits: how each kind of evidence is said in a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from joelclaw_tasks.intelligence.diagnosis.evidence import Exhibit, Kind, iso
from joelclaw_tasks.intelligence.diagnosis.failures import Failed
from joelclaw_tasks.intelligence.diagnosis.shapes import shape_of

_MOST_TRACEBACKS, _MOST_SHAPES = 3, 4
_TRACEBACK_MOST, _TEXT_MOST = 4_000, 700


def exhibit_of(kind: Kind, at: int | None, source: str, text: str) -> Exhibit:
    """One without a number yet; `bounded` numbers those that fit."""
    return Exhibit(id="E0", kind=kind, at=at, source=source[:200], text=text[:_TEXT_MOST])


def of_failures(signature: str, failed: Sequence[Failed]) -> Exhibit:
    """Runs that failed alike."""
    dead = sum(each.is_dead for each in failed)
    jobs, handlers = len({each.job for each in failed}), Counter(each.handler for each in failed)
    error = failed[-1].error or "no reason was given"
    text = (
        f"{len(failed)} failures of {jobs} jobs ({dead} for good) in {', '.join(handlers)},"
        f" {iso(failed[0].at)} to {iso(failed[-1].at)}: {error}"
    )
    return exhibit_of(Kind.FAILURES, failed[0].at, f"signature {signature}", text)


def of_tracebacks(dead: Sequence[Mapping[str, Any]]) -> Iterator[Exhibit]:
    """One traceback of each signature, of jobs as `Store.inspect` answers them."""
    seen: set[str] = set()
    for job in dead:
        signature = str(job.get("signature") or job["id"])
        if not job.get("traceback") or signature in seen or len(seen) == _MOST_TRACEBACKS:
            continue
        seen.add(signature)
        text = f"{job.get('error', '')}\n{job['traceback'][-_TRACEBACK_MOST:]}"
        source = f"job {job['id']} ({signature})"
        yield Exhibit(
            id="E0", kind=Kind.TRACEBACK, at=job.get("discarded_at"), source=source[:200], text=text
        )


def of_shapes(dead: Sequence[Mapping[str, Any]]) -> list[Exhibit]:
    """The shapes of what failed, and how many of the jobs that were looked at have each."""
    found = [arguments_of(job["payload"]) for job in dead if job.get("payload")]
    shapes = Counter("a message that cannot be read" if each is None else shape_of(each) for each in found)
    looked_at = shapes.total()
    return [
        exhibit_of(Kind.PAYLOAD_SHAPE, None, "messages", f"{count} of {looked_at} failed jobs: {shape}")
        for shape, count in shapes.most_common(_MOST_SHAPES)
    ]


def of_act(act: Mapping[str, Any]) -> Exhibit:
    """What somebody did to the queue."""
    until = f", until {iso(int(act['until']))}" if act.get("until") else ""
    undone = (
        f", undone {iso(int(act['undone_at']))} by {act.get('undone_by')}" if act.get("undone_at") else ""
    )
    value = f" to {act['value']}" if act.get("value") not in (None, "") else ""
    what = f"{act['verb']} {act.get('where') or act['target']}{value} by {act['actor']}{until}{undone}"
    return exhibit_of(Kind.CONTROL, int(act["at"]), f"control {act['id']}", f"{what}: {act['reason']}")


def of_attempt(failed: Failed) -> Exhibit:
    """One run that failed."""
    ran = "" if failed.run_ms is None else f" after {failed.run_ms} ms"
    end = "failed for good" if failed.is_dead else "failed, to be retried"
    number = f"attempt {failed.attempt}" if failed.attempt is not None else "it"
    text = f"{number} of {failed.handler} {end}{ran}: {failed.error or 'no reason was given'}"
    return exhibit_of(Kind.ATTEMPT, failed.at, f"job {failed.job}", text)


def arguments_of(payload: Any) -> Any:
    """The data of the event in a message, or the arguments of a plain call; None when it cannot be read.

    `payload` is as `Store.inspect` answers it. Of a batch it is that of its first element.
    """
    if isinstance(payload, Mapping):
        first = next(iter(payload.get("jc_batch") or [payload]))
        body = first.get("body") if isinstance(first, Mapping) else None
        if isinstance(body, list) and len(body) == 3:
            args, kwargs, _ = body
            is_event = (
                isinstance(args, list) and len(args) == 1 and isinstance(args[0], dict) and "data" in args[0]
            )
            return args[0]["data"] if is_event else {"args": args, "kwargs": kwargs}
    return None
