"""The mathematics of the bench: percentiles, rates, paired ratios, and the line that programs read."""

from __future__ import annotations

import json

import pytest

from bench.compare import RATIOS, compare, compare_all, last_line, table
from bench.measure import Measured, consume_rate, percentile, waits_ms
from bench.plan import Plan
from bench.records import Record

POOLS = ("threads", "solo", "prefork")


def a_side(rate: float, wait_ms: float) -> Measured:
    """What `measure_round` gives of a side, every rate and every wait alike."""
    measured = {"publish": rate, "rtt2ms_publish": rate, "emit_many": rate * 5}
    for pool in POOLS:
        for line in ("", "rtt2ms_"):
            measured[f"{line}{pool}"] = rate
            measured |= {f"{line}{name}_{pool}": wait_ms for name in ("p50", "p95", "p99")}
    return measured


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 3.0), (95, 4.8), (100, 5.0)])
def test_a_percentile_lies_between_its_neighbours(percent: float, expected: float) -> None:
    assert expected == pytest.approx(percentile([5, 1, 4, 2, 3], percent))


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 95) == 7.0


def test_the_consume_rate_counts_from_the_first_start_to_the_last_in_any_order() -> None:
    records = [Record(0, int(second * 1e9)) for second in (12, 10, 11)]
    assert pytest.approx(consume_rate(records)) == 1.0


def test_a_wait_lasts_from_the_call_to_the_start() -> None:
    assert waits_ms([Record(1_000_000, 3_500_000)]) == [2.5]


def test_the_ratio_is_the_median_of_the_rounds_and_the_spread_their_range() -> None:
    stock = [{"solo": 100.0}, {"solo": 200.0}, {"solo": 100.0}]
    ours = [{"solo": 200.0}, {"solo": 500.0}, {"solo": 300.0}]
    result = compare(["solo"], stock, ours)
    assert (result.stock, result.ours, result.ratio, result.spread) == (100.0, 300.0, 2.5, (2.0, 3.0))


def test_rounds_are_compared_in_pairs_so_that_a_slow_machine_drops_out() -> None:
    stock = [{"solo": 100.0}, {"solo": 10.0}]
    ours = [{"solo": 200.0}, {"solo": 20.0}]
    assert compare(["solo"], stock, ours).spread == (2.0, 2.0)


def test_several_pools_give_the_median_of_their_ratios() -> None:
    stock = [{"a": 1.0, "b": 10.0, "c": 100.0}]
    ours = [{"a": 3.0, "b": 20.0, "c": 900.0}]
    assert compare(["a", "b", "c"], stock, ours).ratio == 3.0


def test_emit_many_is_put_over_what_a_stock_user_has() -> None:
    comparison = compare(RATIOS["emit_many"], [{"publish": 100.0}], [{"emit_many": 700.0, "publish": 150.0}])
    assert comparison.ratio == 7.0


def test_the_last_line_carries_what_it_promises() -> None:
    comparisons = compare_all([a_side(100, 4)] * 3, [a_side(250, 3)] * 3)
    line = last_line(comparisons, Plan(), {"cpus": 2})
    assert "\n" not in line
    result = json.loads(line)
    rates = dict.fromkeys((*POOLS, "publish", "rtt2ms"), 2.5)
    assert result["ratios"] == rates | {"emit_many": 12.5, "p50": 0.75, "p95": 0.75}
    assert result["rtt2ms_pools"] == dict.fromkeys(POOLS, 2.5)
    assert result["p95_pools"] == dict.fromkeys(POOLS, 0.75)
    assert result["spread"]["threads"] == [2.5, 2.5]
    assert (result["stock"]["solo"], result["ours"]["solo"]) == (100, 250)
    assert (result["rounds"], result["quick"]) == (3, False)
    assert set(result["ratios"]) <= set(result["spread"]) & set(result["stock"]) & set(result["ours"])


def test_the_table_has_a_row_for_every_ratio() -> None:
    comparisons = compare_all([a_side(100, 4)], [a_side(250, 3)])
    first_words = [line.split()[0] for line in table(comparisons).splitlines()[1:]]
    assert list(comparisons) == first_words


def test_every_round_runs_both_sides_and_they_take_turns_at_being_first() -> None:
    assert [("stock", "ours"), ("ours", "stock"), ("stock", "ours")] == list(Plan(rounds=3).orders())
