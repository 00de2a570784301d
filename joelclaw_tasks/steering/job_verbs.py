"""Verbs on jobs: priority, cancel, retry, shed and unshed, each on one job or on all that are chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypedDict, Unpack

from joelclaw_tasks.core.controls import AT_ONCE
from joelclaw_tasks.core.states import WAITING, State, Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import HeldByPerson, InvalidFilter, UnknownJob, WrongState
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.names import Names
from joelclaw_tasks.steering.results import Acted, as_json
from joelclaw_tasks.steering.score import slack_of
from joelclaw_tasks.steering.selection import Selection
from joelclaw_tasks.steering.ttl import parse_ttl_ms

_SAMPLE = 10
#: Words of a job that a verb has changed.
_CHANGED = {Word.PRIORITIZED, Word.STAGED, Word.SHED, Word.UNSHED, Word.CANCELLED, Word.ASKED}

Ttl = str | float | None


class Options(TypedDict, total=False):
    """What every verb on jobs takes. They go some at a time: `on_progress` hears of each step."""

    where: str | None
    dry_run: bool  # only count, and show some
    reason: str
    actor: str | None
    on_progress: Callable[[Acted], object]
    stop: Callable[[], bool]  # true: end early, and tell the truth


#: (ids, act so far) -> (act, a word for each id)
_Call = Callable[[Sequence[str], str], tuple[str, Sequence[Word]]]


class JobVerbs:
    """The part of `Queue` that is about jobs."""

    def __init__(self, store: Store, settings: Settings | None = None, *, actor: str | None = None) -> None:
        self.store = store
        self.settings = settings or Settings()
        self._actor = actor or f"{os.environ.get('USER') or f'uid-{os.getuid()}'}@python"

    # -- jobs ---------------------------------------------------------------------------------

    def priority(
        self,
        target: str | None = None,
        score: int | str = "P0",
        *,
        ttl: Ttl = None,
        **options: Unpack[Options],
    ) -> Acted:
        """Give waiting jobs another priority: P0..P3, or a score of 0..100 (see steering/score.py).

        With a family as target and a ttl, jobs of it that come until then get it too.
        Options as `shed`. Raises InvalidScore, InvalidTtl, and as `shed`.
        """
        slack_ms, level = slack_of(score, self.settings.slack_ms)
        ttl_ms = parse_ttl_ms(ttl)
        chosen = self._choose(target, WAITING, options)
        if ttl_ms and chosen.family is None:
            raise InvalidFilter("a ttl is for a family: what was moved once stays where it is")

        def call(ids: Sequence[str], act: str) -> tuple[str, Sequence[Word]]:
            return self.store.priority(
                ids, slack_ms, level, target=chosen.text, ttl_ms=ttl_ms, act=act, **self._said(options)
            )

        return self._on_jobs("priority", chosen, call, even_if_none=bool(ttl_ms), **options)

    def cancel(
        self, target: str | None = None, *, for_good: bool = False, **options: Unpack[Options]
    ) -> Acted:
        """Take waiting jobs away; running ones, named or `state=executing`, are asked to stop.

        For an hour it can be undone, for jobs that only waited and have no rules (dedup, singleton, batch,
        ...); `for_good` forgets them at once. Options and errors as `shed`.
        """
        chosen = self._choose(target, WAITING, options)

        def call(ids: Sequence[str], act: str) -> tuple[str, Sequence[Word]]:
            label = "" if for_good else chosen.text
            return self.store.cancel_for_undo(ids, target=label, act=act, **self._said(options))

        return self._on_jobs("cancel", chosen, call, **options)

    def retry(self, target: str | None = None, **options: Unpack[Options]) -> Acted:
        """Let jobs that wait for their time or their retry run now. Options and errors as `shed`."""
        chosen = self._choose(target, {State.SCHEDULED, State.RETRYABLE}, options)

        def call(ids: Sequence[str], act: str) -> tuple[str, Sequence[Word]]:
            return self.store.stage(ids, target=chosen.text, act=act, **self._said(options))

        return self._on_jobs("retry", chosen, call, **options)

    def shed(self, target: str | None = None, *, ttl: Ttl = None, **options: Unpack[Options]) -> Acted:
        """Move waiting jobs to the parking lot, for a ttl or until `unshed` or `undo` brings them back.

        Raises UnknownTarget and InvalidFilter; UnknownJob, WrongState and HeldByPerson for a job named by id.
        """
        ttl_ms = parse_ttl_ms(ttl)
        chosen = self._choose(target, WAITING - {State.HELD}, options)

        def call(ids: Sequence[str], act: str) -> tuple[str, Sequence[Word]]:
            return self.store.shed(ids, target=chosen.text, ttl_ms=ttl_ms, act=act, **self._said(options))

        return self._on_jobs("shed", chosen, call, **options)

    def unshed(self, target: str | None = None, **options: Unpack[Options]) -> Acted:
        """Bring jobs back from the parking lot, with their old ranks. Options and errors as `shed`."""
        chosen = self._choose(target, {State.HELD}, options)

        def call(ids: Sequence[str], act: str) -> tuple[str, Sequence[Word]]:
            return self.store.unshed(ids, target=chosen.text, act=act, **self._said(options))

        return self._on_jobs("unshed", chosen, call, **options)

    # -- inside -------------------------------------------------------------------------------

    def _by(self, actor: str | None) -> str:
        return actor or self._actor

    def _said(self, options: Options) -> dict[str, str]:
        return {"actor": self._by(options.get("actor")), "reason": options.get("reason") or ""}

    def _names(self) -> Names:
        return Names(self.store, self.settings)

    def _select(self, target: str | None, where: str | None, states: Collection[State]) -> Selection:
        return Selection(self.store, self._names(), target, where, states)

    def _choose(self, target: str | None, states: Collection[State], options: Options) -> Selection:
        return self._select(target, options.get("where"), states)

    def _on_jobs(
        self,
        verb: str,
        chosen: Selection,
        call: _Call,
        *,
        even_if_none: bool = False,
        **options: Unpack[Options],
    ) -> Acted:
        dry_run = options.get("dry_run", False)
        stop, on_progress = options.get("stop"), options.get("on_progress")
        acted = Acted(verb, chosen.text, dry_run=dry_run)
        act = ""
        if even_if_none and not dry_run:
            act, words = call([], "")
            if words:
                raise HeldByPerson(f"a person has set the priority of {chosen.text}")
        for page in _parts(chosen.pages()):
            if stop is not None and stop():
                acted.interrupted = True
                break
            acted.matched += len(page)
            acted.sample.extend(map(as_json, page[: max(0, _SAMPLE - len(acted.sample))]))
            if not dry_run:
                act, words = call([job["id"] for job in page], act)
                self._tally(acted, words)
                if chosen.ids is not None and not acted.changed:
                    _refuse(verb, chosen.text, words, page)
            if on_progress is not None:
                on_progress(acted)
        if not dry_run:
            acted.sample.clear()
        acted.control = act or None
        if chosen.ids is not None and not acted.matched and options.get("where") is None:
            raise UnknownJob(f"no job has the id {chosen.text!r:.200}")
        return acted

    @staticmethod
    def _tally(acted: Acted, words: Sequence[Word]) -> None:
        for word in words:
            if word in _CHANGED:
                acted.changed += 1
            else:
                acted.skipped[word.value] = acted.skipped.get(word.value, 0) + 1


def _parts(pages: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    for page in pages:
        for start in range(0, len(page), AT_ONCE):
            yield page[start : start + AT_ONCE]


def _refuse(verb: str, target: str, words: Sequence[Word], page: Sequence[dict[str, Any]]) -> None:
    """A job that was named by its id, and stays as it is: that is an error, not a number."""
    if all(word is Word.HELD_BY_PERSON for word in words):
        raise HeldByPerson(
            f"{target} was steered by {page[0].get('steered_by')}: only a person may change it"
        )
    if all(word is Word.MISSING for word in words):
        raise UnknownJob(f"no job has the id {target!r:.200}")
    if all(word is Word.WRONG_STATE for word in words):
        raise WrongState(f"{verb} does not apply to {target}, which is {page[0]['state']}")
