"""Failures: runs that failed, from the transitions stream, with a name for those that failed alike.

A job in the dead letter has a signature. One that is still retried has only its error: it takes the signature
of the dead that failed with the same error in the same handler, else one that is made of error and handler.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from joelclaw_tasks.core.failure import signature_of
from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.runs import ENDS

#: Verbs that end a run badly.
FAILS = (Verb.RETRY, Verb.DISCARD)
#: Entries that are looked at, the newest ones.
MOST_ENTRIES = 20_000
_KIND = re.compile(r"[\w.]{1,80}")


class Failed(NamedTuple):
    """One run that failed, or a job that was discarded without one (`run_ms` None)."""

    id: str
    at: int
    job: str
    family: str
    handler: str
    attempt: int | None
    run_ms: int | None
    is_dead: bool
    error: str
    signature: str


class Story(NamedTuple):
    """What happened to jobs: `runs` are (ended_at, failed); all lists are the oldest first.

    `took` are (ended_at, run_ms) of the runs that went well.
    """

    runs: list[tuple[int, bool]]
    failed: list[Failed]
    took: list[tuple[int, int]]


def likeness_of(handler: str, error: str) -> str:
    """The name of a failure that has no signature yet, from its error and where it happened."""
    kind, _, text = error.partition(": ")
    if not _KIND.fullmatch(kind):
        kind, text = "Retried", error
    return signature_of(kind, text, handler)


def read_story(
    store: Store, since_at: int, until_at: int, wanted: Callable[[Entry], bool], *, only_failed: bool = False
) -> Story:
    """What ended in a span of time, of what is wanted. Raises CoreUnreachable."""
    verbs = FAILS if only_failed else ENDS
    entries = store.history.read(since_at=since_at, until_at=until_at, verbs=verbs, newest_first=True)
    return story_of(islice((entry for entry in entries if wanted(entry)), MOST_ENTRIES))


def story_of(entries: Iterable[Entry]) -> Story:
    """The same, of entries in any order."""
    runs: list[tuple[int, bool]] = []
    failed: list[Failed] = []
    took: list[tuple[int, int]] = []
    for entry in entries:
        if not entry.to_state:
            continue  # the job did not move: a duplicate in the place of a running job
        is_failed = _is_failed(entry)
        if entry.run_ms is not None:
            runs.append((entry.at, is_failed))
            if entry.verb == Verb.COMPLETE:
                took.append((entry.at, entry.run_ms))
        if is_failed:
            failed.append(_failed(entry))
    return Story(sorted(runs), _named(sorted(failed)), sorted(took))


def alike(failed: Sequence[Failed]) -> list[tuple[str, list[Failed]]]:
    """Failures by signature, the most frequent first."""
    found: Mapping[str, list[Failed]] = defaultdict(list)
    for each in failed:
        found[each.signature].append(each)
    return sorted(found.items(), key=lambda group: (-len(group[1]), group[0]))


def _is_failed(entry: Entry) -> bool:
    if entry.verb == Verb.RETRY:
        # A successor that starts at once and gives no reason: the job only goes on.
        return bool(entry.text("reason")) or entry.to_state != "available"
    return entry.verb == Verb.DISCARD


def _failed(entry: Entry) -> Failed:
    return Failed(
        id=entry.id,
        at=entry.at,
        job=entry.job,
        family=entry.family,
        handler=entry.text("handler") or entry.family,
        attempt=entry.number("attempt"),
        run_ms=entry.run_ms,
        is_dead=entry.verb == Verb.DISCARD,
        error=entry.text("reason"),
        signature=entry.text("signature"),
    )


def _named(failed: Sequence[Failed]) -> list[Failed]:
    known: dict[str, str] = {}
    for each in failed:
        if each.signature:
            known[likeness_of(each.handler, each.error)] = each.signature
    named = []
    for each in failed:
        likeness = likeness_of(each.handler, each.error)
        named.append(each if each.signature else each._replace(signature=known.get(likeness, likeness)))
    return named
