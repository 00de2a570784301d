"""Scores: how a person says how soon a job should run."""

from __future__ import annotations

from collections.abc import Sequence

from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.errors import InvalidScore


def slack_of(score: int | str, slack_ms: Sequence[int]) -> tuple[int, int]:
    """The slack in milliseconds of `P0`..`P3` or of a score, and the priority (0..3) that it counts as.

    A score of 100 has the slack of P0 and 0 that of P3; between them it is linear. It counts as the most
    urgent priority that does not promise more than that slack. `slack_ms` are those of P0 to P3.
    Raises InvalidScore.
    """
    text = str(score).strip().upper()
    if isinstance(score, bool) or not (text in PRIORITIES or (text.isascii() and text.isdigit())):
        raise InvalidScore(f"a priority is P0 to P3, or a score from 0 to 100, not {score!r:.80}")
    if text in PRIORITIES:
        level = PRIORITIES.index(text)
        return slack_ms[level], level
    if len(text) > 3 or int(text) > 100:
        raise InvalidScore(f"a score is from 0 to 100, not {text:.80}")
    slack = slack_ms[0] + (slack_ms[3] - slack_ms[0]) * (100 - int(text)) // 100
    return slack, next(level for level in range(4) if slack <= slack_ms[level] or level == 3)
