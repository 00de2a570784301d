"""Verbs on the dead letter: what failed, by what went wrong, and back again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from joelclaw_tasks.core.controls import AT_ONCE
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidFilter, UnknownJob, UnknownTarget, WrongState
from joelclaw_tasks.steering.job_verbs import JobVerbs
from joelclaw_tasks.steering.results import Acted


class DeadVerbs(JobVerbs):
    """The part of `Queue` that is about discarded jobs."""

    def dead(self, limit: int = 100) -> list[dict[str, Any]]:
        """Jobs that failed alike, in groups: signature, count, first_at, last_at, place, error, sample."""
        return list(self.store._ask(lambda: self.store.dead.groups(limit)))

    def revive(
        self,
        job_id: str | None = None,
        *,
        signature: str | None = None,
        sample: int | None = None,
        reason: str = "",
        actor: str | None = None,
    ) -> Acted:
        """Bring one job back, or all of a signature (its beginning is enough), or its oldest `sample`.

        Raises UnknownJob, WrongState, UnknownTarget for a signature, and InvalidFilter without either.
        """
        by = self._by(actor)
        return self._on_dead(
            "revive",
            job_id,
            signature,
            sample,
            Word.REVIVED,
            lambda ids: self.store.revive(ids, actor=by, reason=reason),
        )

    def purge(
        self,
        job_id: str | None = None,
        *,
        signature: str | None = None,
        reason: str = "",
        actor: str | None = None,
    ) -> Acted:
        """Delete one discarded job, or all of a signature, for good. Raises as `revive`."""
        by = self._by(actor)
        return self._on_dead(
            "purge",
            job_id,
            signature,
            None,
            Word.PURGED,
            lambda ids: self.store.purge(ids, actor=by, reason=reason),
        )

    def _on_dead(
        self,
        verb: str,
        job_id: str | None,
        signature: str | None,
        most: int | None,
        wanted: Word,
        call: Callable[[Sequence[str]], Sequence[Word]],
    ) -> Acted:
        if (job_id is None) == (signature is None):
            raise InvalidFilter(f"name a job or a signature for {verb}: one of the two")
        ids = [job_id] if job_id is not None else self._ids_of(signature or "")[:most]
        acted = Acted(verb, job_id or signature or "", matched=len(ids))
        for start in range(0, len(ids), AT_ONCE):
            for word in call(ids[start : start + AT_ONCE]):
                if word is wanted:
                    acted.changed += 1
                else:
                    acted.skipped[word.value] = acted.skipped.get(word.value, 0) + 1
        if job_id is not None and not acted.changed:
            if Word.MISSING.value in acted.skipped:
                raise UnknownJob(f"no job has the id {job_id!r:.200}")
            raise WrongState(f"{verb} does not apply to {job_id}: it is not in the dead letter")
        return acted

    def _ids_of(self, beginning: str) -> list[str]:
        signatures = self.store._ask(self.store.dead.signatures)
        found = [each for each in signatures if each.startswith(beginning)] if beginning else []
        if len(found) != 1 and beginning not in found:
            raise UnknownTarget(
                f"{len(found)} signatures begin with {beginning!r:.200}: `joelclaw dead list`"
            )
        exact = beginning if beginning in found else found[0]
        return list(self.store._ask(lambda: self.store.dead.ids(exact)))
