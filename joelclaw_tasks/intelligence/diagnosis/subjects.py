"""Subjects: what a name means, and which of them deserve a diagnosis without anybody asking."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError, UnknownJob, UnknownTarget
from joelclaw_tasks.intelligence.diagnosis.evidence import Subject
from joelclaw_tasks.intelligence.diagnosis.failures import Failed, alike, read_story
from joelclaw_tasks.intelligence.survey import OWN_PREFIXES
from joelclaw_tasks.registry import Registry

#: So many failures of one handler within so long are no accident.
SUSTAINED, SUSTAINED_MS = 8, 2 * 3_600_000
#: Groups of the dead letter that are looked at for new signatures: those that failed last.
_MOST_GROUPS = 50


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
    yield from _sustained(store, now)
    yield from _new(store, now)


def _sustained(store: Store, now: int) -> Iterator[Suspect]:
    story = read_story(
        store, now - SUSTAINED_MS, now, lambda entry: not is_own(entry.family), only_failed=True
    )
    by_handler: dict[tuple[str, str], list[Failed]] = defaultdict(list)
    for each in story.failed:
        by_handler[each.family, each.handler].append(each)
    for (family, handler), failed in sorted(by_handler.items(), key=lambda pair: -len(pair[1])):
        if len(failed) >= SUSTAINED:
            signature = alike(failed)[0][0]
            subject = Subject(
                kind="handler", name=handler, family=family, handler=handler, signature=signature
            )
            yield Suspect(subject, f"{len(failed)} failures within 2 hours")


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
