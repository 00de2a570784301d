"""Onset: since when runs fail more often than before, by their figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

#: Two shares must be so much likelier than one (a logarithm): chance alone seldom is.
_CLEAR = 3.0


class Onset(NamedTuple):
    """`failed` of `runs` since `at` (epoch ms), `failed_before` of `runs_before` until then."""

    at: int
    failed: int
    runs: int
    failed_before: int
    runs_before: int

    def to_text(self) -> str:
        """For people and models."""
        since = f"{self.failed} of {self.runs} runs failed since"
        if not self.runs_before:
            return f"{since}; no run before that is known"
        return f"{since}; {self.failed_before} of {self.runs_before} before"


def onset_of(runs: Sequence[tuple[int, bool]]) -> Onset | None:
    """The failure from which on the share of failures differs most from the share before.

    `runs` are (ended_at, failed), the oldest first. That split is the one under which both parts are
    likeliest, each with a share of its own, where the later one is higher. Where that says little more than
    one share for all, it is the first failure. None when nothing failed.
    """
    total, total_failed = len(runs), sum(failed for _, failed in runs)
    best: tuple[float, Onset] | None = None
    least = _likelihood(total_failed, total) + _CLEAR
    before = 0
    for position, (at, failed) in enumerate(runs):
        if failed:
            since, since_failed = total - position, total_failed - before
            if not position or since_failed / since > before / position:
                likelihood = _likelihood(before, position) + _likelihood(since_failed, since)
                if best is None or likelihood > max(best[0], least):
                    best = likelihood, Onset(at, since_failed, since, before, position)
            before += 1
    return None if best is None else best[1]


def _likelihood(failed: int, runs: int) -> float:
    """The logarithm of how likely so many failures are with their own share."""
    return sum(part * log(part / runs) for part in (failed, runs - failed) if part)
