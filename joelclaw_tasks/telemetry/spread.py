"""Spread: what samples add up to: percentiles, and the share that went well."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any


def percentile(samples: Sequence[int], share: float) -> int | None:
    """The nearest-rank percentile of sorted samples; None when there are none.

    >>> percentile([100, 200, 300, 400], 0.5), percentile([100, 200, 300, 400], 0.95), percentile([], 0.5)
    (200, 400, None)
    """
    return samples[max(0, math.ceil(len(samples) * share) - 1)] if samples else None


def spread(samples: Iterable[int]) -> dict[str, Any]:
    """count, average, p50, p95, p99 and max of the samples; null where there are none."""
    ordered = sorted(samples)
    return {
        "count": len(ordered),
        "average": round(sum(ordered) / len(ordered), 1) if ordered else None,
        "p50": percentile(ordered, 0.5),
        "p95": percentile(ordered, 0.95),
        "p99": percentile(ordered, 0.99),
        "max": ordered[-1] if ordered else None,
    }


def success_rate(well: int, badly: int) -> float | None:
    """The share that went well, 0 to 1; None when there was nothing."""
    return round(well / (well + badly), 4) if well + badly else None
