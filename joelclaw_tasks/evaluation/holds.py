"""Holds: when which family was held back, read from the acts of a played world. Times in ms of the world."""

from __future__ import annotations

from dataclasses import dataclass

from joelclaw_tasks.evaluation.fault import Faults
from joelclaw_tasks.evaluation.play import START_MS, Played
from joelclaw_tasks.evaluation.scenario import LENGTH_MS

_PAUSE = "pause:family/"
#: A pause that begins so soon after the end of a fault is only late: what failed has been seen since then.
LATE_MS = 120_000
#: To pause again what was let go within this time is a flap.
FLAP_MS = 600_000


@dataclass(frozen=True, slots=True)
class Hold:
    """One stretch in which a family was held back without a break; `by` paused it first."""

    family: str
    by: str
    begins_ms: int
    ends_ms: int


def holds_of(played: Played) -> list[Hold]:
    """Every stretch, by whomever, in the order of their beginnings."""
    begun: dict[str, tuple[int, str]] = {}
    until: dict[str, int] = {}
    found: list[Hold] = []

    def end(family: str, at_ms: int) -> None:
        begins_ms, by = begun.pop(family)
        found.append(Hold(family, by, begins_ms, min(at_ms, until.pop(family))))

    for act in played.acts:
        if not str(act["target"]).startswith(_PAUSE) or act["verb"] not in {"pause", "resume"}:
            continue
        family, at_ms = str(act["target"]).removeprefix(_PAUSE), int(act["at"]) - START_MS
        if family in begun and until[family] <= at_ms:
            end(family, at_ms)
        if act["verb"] == "resume":
            if family in begun:
                end(family, at_ms)
            continue
        begun.setdefault(family, (at_ms, str(act["actor"])))
        until[family] = int(act["until"]) - START_MS if act.get("until") else LENGTH_MS
    for family in list(begun):
        end(family, LENGTH_MS)
    return sorted(found, key=lambda hold: (hold.begins_ms, hold.family))


def needless_ms(hold: Hold, faults: Faults) -> int:
    """For how long of it the downstream of the family was well."""
    down = sum(
        max(0, min(hold.ends_ms, each.ends_ms) - max(hold.begins_ms, each.begins_ms))
        for each in faults.windows
        if each.family == hold.family
    )
    return hold.ends_ms - hold.begins_ms - down


def is_false(hold: Hold, played: Played) -> bool:
    """Whether nothing was down when it began, nor just before. Between two outages of one cause it is not."""
    windows = [each for each in played.scenario.faults.windows if each.family == hold.family]
    if not windows:
        return True
    begins_ms, ends_ms = min(each.begins_ms for each in windows), max(each.ends_ms for each in windows)
    if begins_ms <= hold.begins_ms <= ends_ms + LATE_MS:
        return False
    return not any(0 <= hold.begins_ms - at_ms <= LATE_MS for at_ms in played.jammed_ms)


def flaps_of(holds: list[Hold]) -> int:
    """How often a family was held back again soon after it was let go."""
    last: dict[str, int] = {}
    flaps = 0
    for hold in holds:
        if hold.family in last and hold.begins_ms - last[hold.family] < FLAP_MS:
            flaps += 1
        last[hold.family] = hold.ends_ms
    return flaps
