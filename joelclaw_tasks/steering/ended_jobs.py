"""Ended jobs: those that Redis would run, although a result says that they have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from joelclaw_tasks.core.candidates import Candidates
from joelclaw_tasks.core.controls import AT_ONCE
from joelclaw_tasks.core.states import FINAL, State, Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.steering.findings import Reconciled
from joelclaw_tasks.steering.lost_events import known_jobs
from joelclaw_tasks.steering.outcomes import Outcome, Outcomes, followers_of
from joelclaw_tasks.steering.steps import steps

#: A worker that has stored a result tells Redis of the end within this time.
_TELLS_WITHIN_S = 1.0
_READ_AT_ONCE = 500


class EndedJobs:
    """`find` them, then `cancel` them. Raises CoreUnreachable."""

    def __init__(self, store: Store, outcomes: Outcomes, done: Reconciled) -> None:
        self._store = store
        self._outcomes = outcomes
        self._done = done
        self._candidates = Candidates(store.client, store.keys)
        self._ids: dict[str, list[str]] = {}

    def find(self, say: Callable[[str], object], stop: Callable[[], bool]) -> None:
        """Note the jobs that have a result, unless a worker was just about to tell of their end."""
        suspects: dict[str, tuple[Outcome, int]] = {}
        pages = self._candidates.id_pages(set(State) - FINAL, lambda *_: True)
        while not stop() and (ids := self._store.ask(lambda: next(pages, None))) is not None:
            self._done.saw("jobs", len(ids))
            say(f"asking for the results of {self._done.looked_at['jobs']} jobs")
            ended = self._outcomes.of(ids)
            self._done.saw("results", len(ended))
            for job in self._store.ask(partial(self._candidates.read, list(ended))):
                if job["state"] not in FINAL and _is_of_this_life(job, ended[job["id"]]):
                    suspects[job["id"]] = ended[job["id"]], job["admitted_at"]
        if suspects and not stop():
            time.sleep(_TELLS_WITHIN_S)
            for ids in steps(suspects, _READ_AT_ONCE):
                for job in self._store.ask(partial(self._candidates.read, ids, with_payload=True)):
                    outcome, admitted_at = suspects[job["id"]]
                    if job["state"] not in FINAL and job["admitted_at"] == admitted_at:
                        self._note(job, outcome)
        if self._outcomes.unreadable:
            self._done.unchecked.append(f"results: {self._outcomes.unreadable} cannot be read")

    def to_cancel(self) -> Iterator[tuple[str, list[str]]]:
        """What their results say, and ids, as many as go in one step."""
        for state, ids in self._ids.items():
            for step in steps(ids, AT_ONCE):
                yield state, step

    def cancel(self, state: str, ids: Sequence[str], *, act: str, actor: str, reason: str) -> str:
        """Cancel some that have ended so; what runs is asked to stop. Answers the act, for the next ones."""
        why = f"its result says {state}" + (f": {reason}" if reason else "")
        act, words = self._store.cancel_for_undo(
            ids, actor=actor, reason=why, target=f"ran already ({state})", act=act
        )
        self._done.of("ran").mended += sum(word in (Word.CANCELLED, Word.ASKED) for word in words)
        return act

    def _note(self, job: Mapping[str, Any], outcome: Outcome) -> None:
        about = {name: job[name] for name in ("id", "family", "state")}
        about |= {"result": outcome.state, "done_at": outcome.done_at}
        if self._have_followed(followers_of(job["payload"], outcome.state)):
            self._done.note("ran", **about)
            self._ids.setdefault(outcome.state, []).append(job["id"])
        else:
            self._done.note("leads_on", **about)

    def _have_followed(self, followers: Sequence[str | None]) -> bool:
        """Whether all that a job sent on is known: it waits in Redis, or it has a result."""
        ids = [follower for follower in followers if follower is not None]
        if len(ids) < len(followers):
            return False
        return not ids or set(ids) <= known_jobs(self._store, ids) | self._outcomes.known(ids)


def _is_of_this_life(job: Mapping[str, Any], outcome: Outcome) -> bool:
    """Whether a result came after the job did: an id may be used again, and what failed may be revived."""
    since_at: int = job["admitted_at"] or 0
    if outcome.state != "SUCCESS":
        since_at = max(since_at, job["available_at"] or 0)
    return outcome.done_at > since_at
