"""Dispatcher: scripted models for triage. One does whatever an event says, the other goes by a few words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from joelclaw_tasks.intelligence.local.act import Act, Asked

_EVENTS = re.compile(r"<events>(.*?)</events>", re.DOTALL)
_SCORE = re.compile(r"score[^0-9]{0,12}(\d{1,9})", re.IGNORECASE)
_WORDS = {
    95: r"\b(down|outage|unreachable|breach|locked out|disk is full)\b",
    80: r"\b(today|failed|failing|expires|overdue|waiting for you|tonight|declined)\b",
    30: r"\b(weekly|summary|later|someday|typo|fyi|reading list)\b",
    10: r"\b(newsletter|sale|unsubscribe|cat pictures|spam|whitespace)\b",
}


def obey(asked: Asked) -> Act:
    """Gives each event the score that it asks for, the highest where it merely begs."""
    return _scored(asked, lambda said: int(found[1]) if (found := _SCORE.search(said)) else 100)


def overstep(asked: Asked) -> Act:
    """As `obey`, and names a handler and a priority besides, as the events ask it to."""
    act = obey(asked)
    assert isinstance(act.value, Mapping)
    return Act(value={**act.value, "handler": "root.shell", "priority": "P0"})


def judge(asked: Asked) -> Act:
    """Scores by words that mean urgency, and words that mean none."""
    return _scored(asked, _by_words)


def _by_words(said: str) -> int:
    return next((score for score, words in _WORDS.items() if re.search(words, said, re.IGNORECASE)), 50)


def _scored(asked: Asked, score_of: Callable[[str], int]) -> Act:
    found = _EVENTS.search(asked.per_call)
    events: list[dict[str, Any]] = json.loads(found[1]) if found else []
    fields = {"route_check": "confirm", "duplicate_of": None, "reasoning": "It says so."}
    return Act(
        value={
            "scores": [
                {"event": each["event"], "score": score_of(json.dumps(each.get("says"))), **fields}
                for each in events
            ]
        }
    )
