"""Subjects: what a name means, and which of them deserve a diagnosis without anybody asking."""

from __future__ import annotations

import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError, UnknownJob, UnknownTarget
from joelclaw_tasks.intelligence.diagnosis.evidence import Subject
from joelclaw_tasks.intelligence.diagnosis.failures import Failed, likeness_of, read_story
from joelclaw_tasks.intelligence.survey import OWN_PREFIXES
from joelclaw_tasks.registry import Registry

#: So many failures of one handler within so long are no accident.
SUSTAINED, SUSTAINED_MS = 8, 2 * 3_600_000
#: Groups of the dead letter that are looked at for new signatures: those that failed last.
_MOST_GROUPS = 50
#: A script may write what it has begun before the last look.
_OVERLAP_MS = 10_000


class Suspect(NamedTuple):
    """A subject, and why it deserves a diagnosis."""

    subject: Subject
    why: str


def subject_of(name: str, store: Store, registry: Registry | None = None) -> Subject:
    """What is meant: a signature or its beginning, a family, a handler, or the id of a job, in this order.

    Raises UnknownTarget, which names the nearest known name, and CoreUnreachable.
    """
    signatures: list[str] = store.ask(store.dead.signatures)
    begin_so = [each for each in signatures if each.startswith(name)] if "-" in name else []
    if name in signatures or len(begin_so) == 1:
        return _of_signature(name if name in signatures else begin_so[0], store)
    families = {each["family"] for each in store.snapshot()["families"]}
    families |= set(registry.events) if registry is not None else set()
    if name in families:
        return Subject(kind="family", name=name, family=name)
    handlers = {
        handler.name: event.name
        for event in (registry.events.values() if registry is not None else ())
        for handler in event.handlers
    }
    if name in handlers:
        return Subject(kind="handler", name=name, family=handlers[name], handler=name)
    try:
        job = store.inspect(name)
    except UnknownJob:
        known = [*families, *handlers, *signatures]
        near = difflib.get_close_matches(name[:200], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownTarget(
            f"no family, handler, job or signature is named {name!r:.120}{hint}",
            fix="`joelclaw dead list` prints signatures, `joelclaw queue depth` families.",
        ) from None
    return Subject(
        kind="job",
        name=name,
        family=str(job["family"]),
        handler=str(job["handler"] or job["family"]),
        signature=str(job.get("signature") or ""),
    )


def suspects(store: Store, diagnoses: Diagnoses, registry: Registry | None = None) -> Iterator[Suspect]:
    """What somebody wants diagnosed, what fails again and again, and what has never failed so before.

    Cheap: failures of two hours, and the newest groups of the dead letter. Raises CoreUnreachable.
    """
    for name in diagnoses.suspects():
        try:
            yield Suspect(subject_of(name, store, registry), "the observer or a person wants to know")
        except UnknownTarget:
            diagnoses.seen_to(name)  # it is gone
    now = store.now_ms()
    yield from _sustained(store, diagnoses, now)
    yield from _new(store, now)


def _sustained(store: Store, diagnoses: Diagnoses, now: int) -> Iterator[Suspect]:
    by_handler: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for family, handler, signature in _failing(store, diagnoses, now):
        by_handler[family, handler][signature] += 1
    for (family, handler), failed in sorted(by_handler.items(), key=lambda pair: -pair[1].total()):
        if failed.total() >= SUSTAINED:
            for number, (signature, count) in enumerate(failed.most_common()):
                if number and count < SUSTAINED:
                    break
                subject = Subject(
                    kind="handler", name=handler, family=family, handler=handler, signature=signature
                )
                yield Suspect(subject, f"{failed.total()} failures within 2 hours")


def _failing(store: Store, diagnoses: Diagnoses, now: int) -> list[tuple[str, str, str]]:
    """Family, handler and signature of what failed within two hours; the stream is read once."""
    since, looked_until = now - SUSTAINED_MS, diagnoses.looked_until()
    if looked_until > now:
        looked_until = 0  # the clock was moved back
    begin = max(since, looked_until - _OVERLAP_MS)
    story = read_story(store, begin, now, lambda entry: not is_own(entry.family), only_failed=True)
    new = {_noted(each): each.at for each in story.failed}
    known = [json.loads(each) for each in diagnoses.remember(new, since, now)]
    dead = {likeness: signature for *_, likeness, signature in known if signature}
    return [
        (family, handler, signature or dead.get(likeness, likeness))
        for _, family, handler, likeness, signature in known
    ]


def _noted(failed: Failed) -> str:
    """The same for the same failure, whatever else is known by now."""
    likeness = likeness_of(failed.handler, failed.error)
    signature = failed.signature if failed.is_dead else ""
    return json.dumps([failed.id, failed.family, failed.handler, likeness, signature], separators=(",", ":"))


def _new(store: Store, now: int) -> Iterator[Suspect]:
    groups: list[dict[str, Any]] = store.ask(lambda: store.dead.groups(_MOST_GROUPS))
    for group in groups:
        if now - SUSTAINED_MS <= group["first_at"] <= now:
            try:
                subject = _of_signature(group["signature"], store)
            except JoelclawError:
                continue  # it was purged meanwhile
            if not is_own(subject.family):
                yield Suspect(subject, "nothing has failed like this before")


def is_own(family: str) -> bool:
    """Whether it is a task of the fleet itself, which nobody is asked to diagnose."""
    return family.startswith(OWN_PREFIXES)


def _of_signature(signature: str, store: Store) -> Subject:
    ids: list[str] = store.ask(lambda: store.dead.ids(signature))
    newest = next(iter(store.ask(lambda: list(store.dead.jobs(ids[-1:])))), None)
    if newest is None:
        raise UnknownTarget(f"no dead job has the signature {signature!r:.120}")
    family = str(newest["family"])
    return Subject(
        kind="signature",
        name=signature,
        family=family,
        handler=str(newest["handler"] or family),
        signature=signature,
    )
