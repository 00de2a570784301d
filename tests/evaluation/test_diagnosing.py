"""Diagnosis is judged on made-up incidents: causes named, exhibits that exist, abstaining where right."""

from __future__ import annotations

from collections import Counter

import pytest

from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.day import EVENTS, cost_of_day
from joelclaw_tasks.evaluation.diagnosing import diagnose_incidents
from joelclaw_tasks.evaluation.incident import INCIDENTS, make_incidents
from joelclaw_tasks.evaluation.report import MOST_USD_A_DAY
from joelclaw_tasks.intelligence.diagnosis.answer import Cause
from joelclaw_tasks.intelligence.local.act import Act, Asked


def test_equal_seeds_make_equal_incidents_of_all_kinds():
    made = make_incidents(7)
    assert made == make_incidents(7)
    assert made != make_incidents(8)
    assert {4} == set(Counter(each.cause for each in made).values())
    assert INCIDENTS == len(made)


def test_the_telling_exhibits_exist_and_an_unclear_incident_has_none():
    for each in make_incidents(1):
        assert each.telling <= set(each.evidence.ids)
        assert bool(each.telling) == (each.cause is not None)


def test_the_scripted_model_names_causes_and_what_it_makes_up_is_never_believed(bench: Bench):
    found = diagnose_incidents(bench, 1)

    assert 0.9 <= found["ac1"] <= found["ac3"] == 1
    assert (1, 1) == (found["grounded"], found["abstained"])
    assert found["made_up"] > 5
    assert found["rules"]["ac1"] < 1  # else the incidents are too easy to tell anything


def test_a_model_that_always_says_the_same_is_right_once_in_nine(bench: Bench):
    def same(asked: Asked) -> Act:
        candidate = {
            "cause": Cause.CREDENTIALS.value, "component": "x", "onset_at": None, "confidence": 1,
            "evidence": ["E1"], "because": "Always.",
        }  # fmt: skip
        empty = {"tried": [], "proposed_fix": None, "proposed_diff": None, "would_confirm": None}
        return Act(value={"summary": "x", "candidates": [candidate], "abstains_because": None, **empty})

    found = diagnose_incidents(bench, 1, model=same)

    assert (round(1 / 9, 4), 0) == (found["ac1"], found["abstained"])


def test_a_day_of_500_events_stays_within_its_budget(bench: Bench):
    day = cost_of_day(bench, 1)

    assert EVENTS == day["events"]
    assert 0 < day["cost_usd"] <= MOST_USD_A_DAY
    assert min(day["triage_usd"], day["observer_usd"], day["diagnosis_usd"]) > 0
    assert day["saved_by_scoring_together_usd"] > 0
    assert 20 <= day["digests"] <= 24
    assert day["digest_usd"] > 0
    assert day["digest_usd"] == pytest.approx(day["saved_by_batch_usd"], abs=2e-4)  # half the price
    parts = [day[f"{part}_usd"] for part in ("triage", "observer", "diagnosis", "digest")]
    assert sum(parts) == pytest.approx(day["cost_usd"], abs=4e-4)
