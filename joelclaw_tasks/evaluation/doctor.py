"""Doctor: a scripted model for diagnosis. It counts words in the evidence; now and then it makes an id up."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from typing import Any

from joelclaw_tasks.intelligence.diagnosis.answer import MOST_CANDIDATES, Cause
from joelclaw_tasks.intelligence.local.act import Act, Asked

_EVIDENCE = re.compile(r"<evidence>(.*?)</evidence>", re.DOTALL)
#: One answer of so many cites an exhibit that does not exist.
MAKES_UP_EVERY = 5
_SIGNS = (
    (Cause.DOWNSTREAM_OUTAGE, 3, r"refused the connection|unreachable|\b503\b|: down\b"),
    (Cause.RATE_LIMITED, 3, r"\b429\b|TooManyRequests"),
    (Cause.QUOTA_EXHAUSTED, 4, r"quota|insufficient credit"),
    (Cause.CREDENTIALS, 4, r"\b401\b|token"),
    (Cause.BAD_DEPLOY, 5, r"ImportError"),
    (Cause.BAD_DEPLOY, 1, r"by joel: "),
    (Cause.CODE_DEFECT, 3, r"KeyError|TypeError|IndexError"),
    (Cause.POISON_PAYLOAD, 3, r"ValidationError|malformed|those that went well"),
    (Cause.RESOURCE_EXHAUSTED, 4, r"No space left|MemoryError|Too many open files"),
    (Cause.DOWNSTREAM_SLOW, 3, r"ReadTimeout|TimeLimitExceeded|took too long"),
)
_READ = tuple((cause, weight, re.compile(pattern)) for cause, weight, pattern in _SIGNS)
_LEAST = 3


def examine(asked: Asked) -> Act:
    """What it says to a question of diagnosis."""
    answer = _answer(_exhibits(asked))
    if asked.number % MAKES_UP_EVERY == 0 and answer["candidates"]:
        answer["candidates"][0]["evidence"].append("E99")
    return Act(value=answer)


def _exhibits(asked: Asked) -> list[dict[str, Any]]:
    found = _EVIDENCE.search(asked.per_call)
    exhibits: list[dict[str, Any]] = json.loads(found[1]) if found is not None else []
    return exhibits


def _answer(exhibits: list[dict[str, Any]]) -> dict[str, Any]:
    weights: Counter[Cause] = Counter()
    cited: dict[Cause, list[str]] = defaultdict(list)
    for exhibit in exhibits:
        for cause, weight, sign in _READ:
            if sign.search(exhibit["text"]):
                weights[cause] += weight
                cited[cause].append(exhibit["id"])
    ranked = [(cause, weight) for cause, weight in weights.most_common(MOST_CANDIDATES)]
    is_clear = bool(ranked) and ranked[0][1] >= _LEAST
    return {
        "summary": "The words of the evidence say so." if is_clear else "Nothing stands out.",
        "candidates": [
            {
                "cause": cause.value, "component": "what the evidence names", "onset_at": None,
                "confidence": round(weight / weights.total(), 2), "evidence": cited[cause],
                "because": "These exhibits say so.",
            }
            for cause, weight in ranked
        ] if is_clear else [],
        "tried": [], "proposed_fix": None, "proposed_diff": None, "would_confirm": None,
        "abstains_because": None if is_clear else "the errors name no cause",
    }  # fmt: skip
