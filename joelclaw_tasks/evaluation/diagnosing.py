"""Diagnosing: how often the cause of a made-up incident is named, and whether what is cited exists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.doctor import examine
from joelclaw_tasks.evaluation.incident import Incident, make_incidents
from joelclaw_tasks.intelligence.diagnosis.ask import diagnose
from joelclaw_tasks.intelligence.diagnosis.result import Diagnosis
from joelclaw_tasks.intelligence.diagnosis.rules import by_rules
from joelclaw_tasks.intelligence.local.act import Rule
from joelclaw_tasks.intelligence.reason import Reason


def diagnose_incidents(bench: Bench, seed: int, model: Rule = examine) -> dict[str, Any]:
    """Incidents diagnosed by the scripted `model`, by the fixed rules, and by a live one if there is any."""
    incidents = make_incidents(seed)
    bench.api.rule = model
    scripted = _judged(incidents, lambda each: diagnose(each.evidence, bench.scripted))
    live = bench.live
    return {
        **scripted,
        "incidents": len(incidents),
        "rules": _judged(incidents, lambda each: by_rules(each.evidence)),
        "live": None if live is None else _judged(incidents, lambda each: diagnose(each.evidence, live)),
    }


def _judged(incidents: Sequence[Incident], answer: Callable[[Incident], Diagnosis]) -> dict[str, Any]:
    """`ac1`, `ac3`: the share of incidents with a cause in which it is named first, or among three.

    `grounded`: the share of diagnoses with a cause that cite only exhibits which exist, and one at least that
    shows the cause. `abstained`: the share of incidents without a clear cause of which nothing is claimed.
    `made_up`: answers that cited an exhibit which does not exist; none was believed, another tier was asked.
    """
    pairs = [(each, answer(each)) for each in incidents]
    clear = [(each, said) for each, said in pairs if each.cause is not None]
    unclear = [said for each, said in pairs if each.cause is None]
    named = [(each, said) for each, said in clear if said.candidates]
    return {
        "ac1": _share([said.causes[:1] == [each.cause] for each, said in clear]),
        "ac3": _share([each.cause in said.causes for each, said in clear]),
        "grounded": _share(
            [said.cited <= set(each.evidence.ids) and bool(said.cited & each.telling) for each, said in named]
        ),
        "abstained": _share([said.abstained for said in unclear]),
        "made_up": sum(_made_up(said) for _, said in pairs),
    }


def _made_up(said: Diagnosis) -> int:
    return sum(each["reason"] == Reason.INVALID_ANSWER for each in said.decision.get("attempts", ()))


def _share(hits: Sequence[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None
