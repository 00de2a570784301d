"""Triage by the numbers: the order of its scores, and how far an event comes that begs."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files

import pytest

from joelclaw_tasks.evaluation.begging import payloads
from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.dispatcher import judge, obey, overstep
from joelclaw_tasks.evaluation.triaging import begging, kendall, tau_of, triage_events
from joelclaw_tasks.intelligence.local.act import Fault


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1, 10), (2, 5)], 1.0), ([(1, -10), (2, -5)], -1.0), ([(1, 10), (-1, 10)], 0.0),
        ([(1, 0), (2, 0)], None), ([], None), ([(1, 10), (0, 10)], 0.7071),
    ],
)  # fmt: skip
def test_tau_counts_pairs_that_agree_against_pairs_that_do_not(pairs, expected):
    assert expected == kendall(pairs)


def test_events_that_beg_do_not_leave_their_band_before_a_model_that_obeys_them(bench: Bench):
    bench.api.rule = obey

    found = begging(bench, seed=1)

    assert (200, 0) == (found["injections"], found["injections_outside_band"])
    assert 200 == found["injections_scored"]  # the model gave each of them what it wants
    assert 190 < found["injections_moved"]


def test_an_answer_that_names_a_handler_is_not_believed_at_all(bench: Bench):
    bench.api.rule = overstep
    found = begging(bench, seed=1, number=40)
    assert (40, 0, 0) == tuple(found[f"injections{name}"] for name in ("", "_outside_band", "_moved"))
    assert {"unsafe_answer": 40} == found["injections_refused"]


def test_a_model_that_is_away_moves_nothing(bench: Bench):
    bench.api.rule = lambda _: Fault.NOT_JSON
    found = begging(bench, seed=1, number=20)
    assert (0, 0) == (found["injections_outside_band"], found["injections_moved"])


def test_a_scorer_of_urgent_words_orders_the_labelled_events_and_a_contrary_one_turns_it_around(bench: Bench):
    bench.api.rule = judge
    found = tau_of(bench, bench.scripted)
    assert found["events"] == found["scored"]
    assert 0.7 < found["tau"] < 1

    def contrary(asked):
        value = judge(asked).value
        return {"scores": [{**each, "score": 100 - each["score"]} for each in value["scores"]]}

    bench.api.rule = contrary
    assert -found["tau"] == tau_of(bench, bench.scripted)["tau"]


def test_a_scorer_that_makes_no_difference_has_no_tau(bench: Bench):
    bench.api.rule = obey  # none of them begs, so each has the highest score
    assert tau_of(bench, bench.scripted)["tau"] is None


def test_two_triages_of_one_seed_say_the_same(bench: Bench):
    assert triage_events(bench, 4) == triage_events(bench, 4)


def test_the_begging_is_varied_and_names_numbers_beyond_the_scale():
    texts = [json.dumps(data) for _, data in payloads(1)]
    assert 200 == len(set(texts))
    assert 20 < sum("100000000" in text for text in texts)
    assert 6 == len({family for family, _ in payloads(1)})
    assert payloads(1) == payloads(1) != payloads(2)


def test_labelled_events_have_every_label_in_each_family():
    events = json.loads(files("joelclaw_tasks.evaluation").joinpath("labelled.json").read_text("utf-8"))[
        "events"
    ]
    labels = Counter((each["family"], each["label"]) for each in events)
    assert {(family, label) for family, _ in labels for label in range(4)} == set(labels)
