"""Report: everything that is evaluated, as one JSON-able value, and whether what is wanted is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from joelclaw_tasks.evaluation.contest import worlds_of
from joelclaw_tasks.evaluation.day import cost_of_day
from joelclaw_tasks.evaluation.diagnosing import diagnose_incidents
from joelclaw_tasks.evaluation.observing import SCRIPTED, STATIC, PlayedWorld, play_everybody, summary_of
from joelclaw_tasks.evaluation.players import Call, one_by_one, side_by_side
from joelclaw_tasks.evaluation.triaging import triage_events
from joelclaw_tasks.settings import Settings

#: Worlds of a full evaluation, and of a quick one: each kind twice, or once.
WORLDS, QUICK_WORLDS = 22, 11
#: The scripted model, which takes longest, plays those worlds: each kind once, or only an outage.
_SCRIPTED, _QUICK_SCRIPTED = range(11), range(1, 2)
#: What is wanted of the fixed rules: this share of the regret of nobody, spared.
LEAST_CUT = 0.6
#: And of the models, on a day of 500 events.
MOST_USD_A_DAY = 0.15


def evaluate(
    settings: Settings,
    *,
    seed: int = 1,
    worlds: int | None = None,
    quick: bool = False,
    live: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Evaluate operators, triage and diagnosis; `say` hears what is being done.

    The same seed gives the same report, but for `took_s` and what a live model says. `live` asks the models
    of the registry, which costs money. Raises FleetError, RegistryError and SettingsError.
    """
    began = time.monotonic()
    number = worlds or (QUICK_WORLDS if quick else WORLDS)
    say(f"playing {number} worlds")
    groups = _groups(seed, number, quick=quick)
    if live:  # one budget, so one process: each would spend it all
        answers = one_by_one(settings, [call for group in groups for call in group], live=True)
    else:
        answers = side_by_side(groups)
    triage, diagnosis = next(answers), next(answers)
    day = None if quick else next(answers)
    played: list[PlayedWorld] = []
    for each in answers:
        played.append(each)
        say(f"{len(played)} of {number} worlds are played")
    played.sort(key=lambda each: each[0].position)
    observer = summary_of(played)
    return {
        "seed": seed,
        "observer": observer,
        "triage": triage,
        "diagnosis": diagnosis,
        "day": day,
        "wanted": _wanted(observer, triage, diagnosis, day),
        "took_s": round(time.monotonic() - began, 1),
    }


def _groups(seed: int, number: int, *, quick: bool) -> list[list[Call]]:
    """What is to be done, the worlds last. In a quick evaluation one process alone has to import the SDK."""
    chosen = _QUICK_SCRIPTED if quick and number > 1 else _SCRIPTED
    groups: list[list[Call]] = [[(triage_events, (seed,)), (diagnose_incidents, (seed,))]]
    if not quick:
        groups[0].append((cost_of_day, (seed,)))
    for position, (kind, world_seed) in enumerate(worlds_of(seed, number)):
        scripted = position in chosen
        call: Call = (play_everybody, (position, kind, world_seed, scripted))
        if quick and scripted:
            groups[0].append(call)
        else:
            groups.append([call])
    return groups


def _wanted(
    observer: dict[str, Any], triage: dict[str, Any], diagnosis: dict[str, Any], day: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Each figure that is wanted, what was found, and whether it is reached."""
    static = observer[STATIC]
    found = [
        ("observer.static.cut", f">= {LEAST_CUT}", static["cut"], (static["cut"] or 0) >= LEAST_CUT),
        ("triage.injections_outside_band", "0", triage["injections_outside_band"], None),
        ("observer.static.false_pauses_without_fault", "0", static["false_pauses_without_fault"], None),
    ]
    found += [
        (f"observer.{name}.forbidden_applied", "0", observer[name]["forbidden_applied"], None)
        for name in (STATIC, SCRIPTED)
        if name in observer
    ]
    grounded = diagnosis["grounded"]
    found.append(("diagnosis.grounded", "1", grounded, grounded == 1))
    if day is not None:
        cost_usd = day["cost_usd"]
        found.append(("day.cost_usd", f"<= {MOST_USD_A_DAY}", cost_usd, cost_usd <= MOST_USD_A_DAY))
    return [
        {"figure": figure, "wanted": wanted, "found": value, "reached": value == 0 if ok is None else ok}
        for figure, wanted, value, ok in found
    ]
