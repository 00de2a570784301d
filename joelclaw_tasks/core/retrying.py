"""Retrying: whether a failure is worth another try, and when."""

from __future__ import annotations

import random
from collections.abc import Callable

from joelclaw_tasks.core.spec import RetrySpec


def retry_delay_s(
    retries: int, policy: RetrySpec, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds before retry number `retries` (0 first): exponential with full jitter, drawn by `uniform`.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    ceiling = min(policy.cap_s, policy.base_s * 2.0 ** min(retries, 60))
    return uniform(0, ceiling)


def asked_wait_s(error: BaseException) -> float:
    """Seconds that the error asks to wait (its `retry_after_s`), a day at most; 0: it asks nothing."""
    asked = getattr(error, "retry_after_s", 0)
    return min(86_400.0, max(0.0, asked)) if isinstance(asked, int | float) else 0.0


def is_worth_retrying(error: BaseException, policy: RetrySpec) -> bool:
    """Whether the policy names the error or a class that it derives from, bare or dotted, or names none."""
    if not policy.retry_on:
        return True
    return any(
        one.__name__ in policy.retry_on or f"{one.__module__}.{one.__qualname__}" in policy.retry_on
        for one in type(error).__mro__
    )
