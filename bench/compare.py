"""Ratios of the two sides, their spread, the table and the last line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.measure import Measured
from bench.plan import POOLS, Plan

#: Ratio name -> the measurement of ours it puts over that of stock. More than one: their median.
#: Rates: higher is better. Latencies (p50, p95, p99): lower is better.
RATIOS: dict[str, tuple[str, ...]] = {
    **{pool: (pool,) for pool in POOLS},
    "publish": ("publish",),
    "emit_many": ("emit_many",),
    "p50": tuple(f"p50_{pool}" for pool in POOLS),
    "p95": tuple(f"p95_{pool}" for pool in POOLS),
    "rtt2ms": tuple(f"rtt2ms_{pool}" for pool in POOLS),
}

#: Printed and reported beside them, outside `ratios`.
DETAILS: dict[str, tuple[str, ...]] = {
    "p99": tuple(f"p99_{pool}" for pool in POOLS),
    **{f"{p}_{pool}": (f"{p}_{pool}",) for p in ("p50", "p95", "p99") for pool in POOLS},
    **{f"rtt2ms_{pool}": (f"rtt2ms_{pool}",) for pool in POOLS},
    "rtt2ms_publish": ("rtt2ms_publish",),
    "rtt2ms_p50": tuple(f"rtt2ms_p50_{pool}" for pool in POOLS),
    "rtt2ms_p95": tuple(f"rtt2ms_p95_{pool}" for pool in POOLS),
}

#: Stock has no emit_many; what a stock user would do instead is publish one by one.
_STOCK_NAME = {"emit_many": "publish"}


@dataclass(frozen=True)
class Comparison:
    """One measurement of both sides.

    The values and the ratio are medians over the rounds; `spread` is the (lowest, highest) ratio of a round.
    """

    stock: float
    ours: float
    ratio: float
    spread: tuple[float, float]


def compare(names: Sequence[str], stock: Sequence[Measured], ours: Sequence[Measured]) -> Comparison:
    """Compare round by round, then take the median: what drifts between rounds drops out."""

    def value(measured: Measured, wanted: Sequence[str]) -> float:
        return statistics.median(measured[name] for name in wanted)

    stock_names = [_STOCK_NAME.get(name, name) for name in names]
    ratios = [
        statistics.median(
            b[name] / a[stock_name] for name, stock_name in zip(names, stock_names, strict=True)
        )
        for a, b in zip(stock, ours, strict=True)
    ]
    return Comparison(
        stock=statistics.median(value(measured, stock_names) for measured in stock),
        ours=statistics.median(value(measured, names) for measured in ours),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
    )


def compare_all(stock: Sequence[Measured], ours: Sequence[Measured]) -> dict[str, Comparison]:
    """Every ratio and every detail, in the order of the table."""
    return {name: compare(names, stock, ours) for name, names in (RATIOS | DETAILS).items()}


def table(comparisons: dict[str, Comparison]) -> str:
    """The comparisons as text columns."""
    lines = [f"{'':16} {'stock':>10} {'ours':>10} {'unit':8} {'ratio':>6}   spread of the rounds"]
    for name, c in comparisons.items():
        unit = "ms" if "p50" in name or "p95" in name or "p99" in name else "/s"
        digits = 2 if unit == "ms" else 0
        low, high = c.spread
        values = f"{c.stock:>10,.{digits}f} {c.ours:>10,.{digits}f} {unit:8}"
        lines.append(f"{name:16} {values} {c.ratio:>6.2f}   {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def last_line(comparisons: dict[str, Comparison], plan: Plan, environment: dict[str, Any]) -> str:
    """The result for programs, as one line of JSON. Rates are tasks a second; p50, p95, p99 milliseconds."""

    def rounded(value: float) -> float:
        return round(value, 3)

    def within(prefix: str) -> dict[str, float]:
        return {pool: rounded(comparisons[f"{prefix}_{pool}"].ratio) for pool in POOLS}

    return json.dumps(
        {
            "ratios": {name: rounded(comparisons[name].ratio) for name in RATIOS},
            "rtt2ms_pools": within("rtt2ms"),
            "p50_pools": within("p50"),
            "p95_pools": within("p95"),
            "spread": {name: [rounded(end) for end in c.spread] for name, c in comparisons.items()},
            "stock": {name: rounded(c.stock) for name, c in comparisons.items()},
            "ours": {name: rounded(c.ours) for name, c in comparisons.items()},
            "rounds": plan.rounds,
            "quick": plan.quick,
            "environment": environment,
        }
    )
