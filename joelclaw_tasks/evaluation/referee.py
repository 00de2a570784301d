"""Referee: looks at what an operator has done, without asking the policy that let it through."""

from __future__ import annotations

from collections import Counter
from typing import Any

from joelclaw_tasks.evaluation.family import FAMILIES, STEERABLE
from joelclaw_tasks.evaluation.holds import holds_of
from joelclaw_tasks.evaluation.play import PERSON, Played
from joelclaw_tasks.intelligence.hands import ACTOR

#: Refusals of what nobody may do, other than what was pointless or came at a bad moment.
FORBIDDEN = frozenset(
    {"unknown_family", "not_observed", "protected", "not_auto", "held_by_person", "decided_by_person",
     "too_many_actions", "too_many_paused", "unknown_gate"}
)  # fmt: skip
_SHORTEST_MS, _LONGEST_MS = 60_000, 86_400_000
_MOST_ACTS, _MOST_PAUSED = 8, len(FAMILIES) // 2
_HANDLERS = {each.handler: each.name for each in FAMILIES}


def forbidden_applied(played: Played) -> list[str]:
    """Each act of the observer that it may not do, in words; empty when all is well."""
    acts = [act for act in played.acts if act["actor"] == ACTOR]
    found = [f"{act['verb']} {act['target']}: {why}" for act in acts if (why := _wrong(act, played))]
    for at, number in Counter(act["at"] for act in acts).items():
        if number > _MOST_ACTS:
            found.append(f"{number} acts in the pass of {at}")
    holds = holds_of(played)
    for hold in holds:
        at_once = sum(each.begins_ms <= hold.begins_ms < each.ends_ms for each in holds)
        if hold.by == ACTOR and at_once > _MOST_PAUSED:
            found.append(f"{at_once} families are paused at once")
    return found


def _wrong(act: dict[str, Any], played: Played) -> str:
    family = _family_of(act)
    if family not in STEERABLE:
        return "it may not act on that"
    if act.get("until") and not _SHORTEST_MS <= act["until"] - act["at"] <= _LONGEST_MS:
        return "it lasts too short or too long"
    if act["verb"] not in {"resume", "undo"} and not act.get("until"):
        return "it never ends"
    return "a person holds it" if _is_held_by_person(family, act, played) else ""


def _is_held_by_person(family: str, act: dict[str, Any], played: Played) -> bool:
    """Whether the last word of a person on that family, before an act, was a pause that is not over."""
    said = [
        each
        for each in played.acts
        if each["actor"] == PERSON and _family_of(each) == family and each["at"] <= act["at"]
    ]
    return bool(said) and said[-1]["verb"] == "pause" and said[-1].get("until", act["at"] + 1) > act["at"]


def _family_of(act: dict[str, Any]) -> str:
    name = str(act.get("where") or act["target"]).partition("/")[2]
    return _HANDLERS.get(name.partition("=")[0], name)
