"""Collect: makes the evidence of a subject, from stream, dead letter, controls, deploys, registry and health.

It only reads. Values of payloads stay where they are, and what they call a secret is masked in all else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from joelclaw_tasks.core.health import Health
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.masking import named_secrets
from joelclaw_tasks.core.passes import Passes
from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.core.spec import HandlerSpec
from joelclaw_tasks.core.states import Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import UnknownJob
from joelclaw_tasks.intelligence.diagnosis import exhibits, history
from joelclaw_tasks.intelligence.diagnosis.deploys import commits_of
from joelclaw_tasks.intelligence.diagnosis.evidence import (
    Evidence,
    Exhibit,
    Kind,
    Subject,
    as_json,
    bounded,
    iso,
)
from joelclaw_tasks.intelligence.diagnosis.exhibits import arguments_of, exhibit_of
from joelclaw_tasks.intelligence.diagnosis.failures import Failed, Story, alike, likeness_of, read_story
from joelclaw_tasks.intelligence.diagnosis.history import RestateFailure
from joelclaw_tasks.intelligence.diagnosis.onset import Onset, onset_of
from joelclaw_tasks.intelligence.snapshot import HealthNow
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_files import event_file

WINDOW_MS = 24 * 3_600_000
_MOST_GROUPS, _MOST_OLD, _MOST_JOBS, _MOST_OF_GROUP = 8, 3, 12, 6
_MOST_ACTS, _MOST_DEPLOYS, _MOST_ATTEMPTS = 12, 10, 12
_REGISTRY_MOST = 3_000
_DEPLOYS = "deploys"


class _Seen(NamedTuple):
    """What was read of a subject. `old` are groups of the dead letter from before that time."""

    story: Story
    groups: Sequence[tuple[str, list[Failed]]]
    old: Sequence[Mapping[str, Any]]
    onset: Onset | None
    jobs: Sequence[Mapping[str, Any]]
    since_at: int
    taken_at: int


class Collector:
    """Collects what is known. `registry` None, no `checkout`, `health` or `restate`: that part is missing.

    `registry_dir` has the files of the registry. `restate` answers what fails in services of those names.
    Raises CoreUnreachable.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry | None = None,
        *,
        registry_dir: Path | None = None,
        checkout: Path | None = None,
        health: Callable[[], Sequence[HealthNow]] = tuple,
        restate: Callable[[Collection[str]], Sequence[RestateFailure]] = lambda _: (),
    ) -> None:
        self._store = store
        self._registry = registry
        self._registry_dir = registry_dir
        self._checkout = checkout
        self._health = health
        self._restate = restate

    def collect(self, subject: Subject, past: Sequence[Exhibit] = ()) -> Evidence:
        """The evidence of a subject of the last 24 hours; `past` are earlier diagnoses of it."""
        now = self._store.now_ms()
        since = max(0, now - WINDOW_MS)
        story = read_story(self._store, since, now, lambda entry: _is_about(entry, subject))
        subject = _with_signature(subject, story)
        groups = _subject_first(alike(story.failed), subject)
        old = self._old_groups(subject, {name for name, _ in groups})
        names = [name for name, _ in groups] + [str(group["signature"]) for group in old]
        onset, jobs = onset_of(story.runs), self._failed_jobs(names, groups, subject)
        seen = _Seen(story, groups, old, onset, jobs, since, now)
        secrets = secrets_of()
        for job in jobs:
            secrets |= named_secrets(arguments_of(job.get("payload")))
        kept, omitted = bounded(
            each.model_copy(
                update={"text": redacted(each.text, secrets), "source": redacted(each.source, secrets)}
            )
            for each in self._exhibits(subject, past, seen)
        )
        return Evidence(
            subject=subject,
            taken_at=now,
            since_at=since,
            onset_at=None if onset is None else onset.at,
            failed=len(story.failed),
            completed=sum(not failed for _, failed in story.runs),
            signatures=tuple(names[:_MOST_GROUPS]),
            likeness=_likeness(groups, names, subject),
            exhibits=kept,
            omitted=omitted,
        )

    def _exhibits(self, subject: Subject, past: Sequence[Exhibit], seen: _Seen) -> Iterator[Exhibit]:
        """What matters most comes first: the end may not fit."""
        for signature, failed in seen.groups[:_MOST_GROUPS]:
            yield exhibits.of_failures(signature, failed)
        for group in seen.old:
            text = f"{group['count']} dead jobs, the last {iso(group['last_at'])}: {group['error']}"
            yield exhibit_of(Kind.FAILURES, group["first_at"], f"signature {group['signature']}", text)
        if seen.onset is not None:
            yield exhibit_of(Kind.ERROR_RATE, seen.onset.at, "transitions", seen.onset.to_text())
        yield from history.of_latency(seen.story.took, seen.onset)
        yield from exhibits.of_tracebacks(seen.jobs)
        calls = [each.restate for each in self._handlers(subject)]
        services = {call.service for call in calls if call is not None}
        if services:
            yield from history.of_restate(self._restate(services), seen.since_at)
        yield from exhibits.of_shapes(seen.jobs)
        yield from self._deploys(seen.since_at, seen.taken_at)
        yield from self._acts(subject, seen.since_at)
        yield from self._entry_of_registry(subject)
        for check in self._health():
            text = f"{check.name} is {check.status}: {check.detail}"
            yield exhibit_of(Kind.HEALTH, seen.taken_at, "health pulse", text)
        if self._registry is not None:
            needed = {name for each in self._handlers(subject) for name in each.depends_on}
            yield from history.of_checks(Health(self._store), self._registry.checks, needed, seen.since_at)
        yield from past
        yield from self._attempts(subject, seen.story)

    def _handlers(self, subject: Subject) -> Sequence[HandlerSpec]:
        event = self._registry.events.get(subject.family) if self._registry is not None else None
        handlers = event.handlers if event is not None else ()
        return [each for each in handlers if subject.handler in {"", each.name}]

    def _old_groups(self, subject: Subject, known: set[str]) -> list[dict[str, Any]]:
        """Groups of the dead letter of this subject whose failures are too old to be in the story."""
        groups: list[dict[str, Any]] = self._store.ask(self._store.dead.groups)
        groups = [group for group in groups if group["signature"] not in known]
        if subject.signature:
            return [group for group in groups if group["signature"] == subject.signature]
        ids = [str(group["sample"]) for group in groups]
        samples: list[dict[str, Any]] = self._store.ask(lambda: list(self._store.dead.jobs(ids)))
        own = {job["signature"] for job in samples if job["family"] == subject.family}
        return [group for group in groups if group["signature"] in own][:_MOST_OLD]

    def _failed_jobs(
        self, signatures: Sequence[str], groups: Sequence[tuple[str, list[Failed]]], subject: Subject
    ) -> list[dict[str, Any]]:
        """The newest jobs of each group, dead ones first, and the job itself that is asked about."""
        wanted = [subject.name] if subject.kind == "job" else []
        failed = dict(groups)
        for signature in signatures[:_MOST_GROUPS]:
            ids: list[str] = self._store.ask(partial(self._store.dead.ids, signature))
            wanted += ids[: -_MOST_OF_GROUP - 1 : -1]
            wanted += [each.job for each in failed.get(signature, [])[: -_MOST_OF_GROUP - 1 : -1]]
        found: list[dict[str, Any]] = []
        for job_id in dict.fromkeys(wanted):
            if len(found) == _MOST_JOBS:
                break
            try:
                job = self._store.inspect(job_id)
            except UnknownJob:
                continue  # it is over, or was purged meanwhile
            if subject.family in {"", job["family"]}:  # others may fail alike
                found.append(job)
        return found

    def _deploys(self, since: int, now: int) -> Iterator[Exhibit]:
        yield from commits_of(self._checkout, since, now, _MOST_DEPLOYS)
        known = self._registry.events if self._registry is not None else ()
        families = [name for name in known if name.partition("/")[0] == _DEPLOYS]
        if not families:
            return
        admitted = self._store.history.read(since_at=since, verbs=[Verb.ADMIT], newest_first=True)
        events = (each for each in admitted if each.family in families and each.to_state)
        for entry in islice(events, _MOST_DEPLOYS):
            yield exhibit_of(Kind.DEPLOY, entry.at, f"event {entry.family}", self._deployed(entry))

    def _deployed(self, entry: Entry) -> str:
        """What the event says; its message is gone once its jobs are done."""
        try:
            data = arguments_of(self._store.inspect(entry.job).get("payload"))
        except UnknownJob:
            data = None
        fields = data.items() if isinstance(data, dict) else ()
        said = {name: value for name, value in fields if isinstance(value, str | int)}
        return f"{entry.family} {as_json(said)}" if said else f"{entry.family} (job {entry.job})"

    def _acts(self, subject: Subject, since: int) -> list[Exhibit]:
        names = self._names(subject)
        acts = Passes(self._store).look().acts
        found = [act for act in acts if int(act["at"]) >= since and _touches(act, names)]
        return [exhibits.of_act(act) for act in found[-_MOST_ACTS:]]

    def _names(self, subject: Subject) -> set[str]:
        names = {subject.family, subject.handler}
        event = self._registry.events.get(subject.family) if self._registry is not None else None
        for handler in event.handlers if event is not None else ():
            names |= {handler.name, handler.queue}
        return names - {""}

    def _entry_of_registry(self, subject: Subject) -> Iterator[Exhibit]:
        known = self._registry.events if self._registry is not None else ()
        if self._registry_dir is None or subject.family not in known:
            return
        name = event_file(subject.family)
        try:
            text = (self._registry_dir / "events" / name).read_text(encoding="utf-8")[:_REGISTRY_MOST]
        except (OSError, UnicodeDecodeError):
            return
        yield Exhibit(id="E0", kind=Kind.REGISTRY, source=f"registry/events/{name}", text=text)

    def _attempts(self, subject: Subject, story: Story) -> list[Exhibit]:
        failed = story.failed
        if subject.kind == "job":
            own = [each for each in failed if each.job == subject.name]
            failed = [*(each for each in failed if each.job != subject.name), *own]
        return [exhibits.of_attempt(each) for each in failed[: -_MOST_ATTEMPTS - 1 : -1]]


def _is_about(entry: Entry, subject: Subject) -> bool:
    if subject.handler and entry.text("handler") not in {"", subject.handler}:
        return False
    return not subject.family or entry.family == subject.family


def _with_signature(subject: Subject, story: Story) -> Subject:
    """A job that is still retried has the signature of what it failed with last."""
    own = [each for each in story.failed if each.job == subject.name] if subject.kind == "job" else []
    return subject.model_copy(update={"signature": own[-1].signature}) if own else subject


def _subject_first(
    groups: list[tuple[str, list[Failed]]], subject: Subject
) -> list[tuple[str, list[Failed]]]:
    return sorted(groups, key=lambda group: group[0] != subject.signature)  # it keeps the order of the others


def _likeness(groups: Sequence[tuple[str, list[Failed]]], names: Sequence[str], subject: Subject) -> str:
    """That of the first group, unless the subject is about one that is not among the groups."""
    if not groups or (subject.signature in names and groups[0][0] != subject.signature):
        return ""
    newest = groups[0][1][-1]
    return likeness_of(newest.handler, newest.error)


def _touches(act: Mapping[str, Any], names: set[str]) -> bool:
    """Whether an act is about one of the names, or the registry has set anew what it sets."""
    if str(act["actor"]).startswith("registry"):
        return True
    target = f"{act['target']} {act.get('where') or ''}"
    return any(name in target for name in names)
