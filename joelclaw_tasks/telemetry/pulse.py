"""Pulse: how the queue is doing at this moment, read so cheaply that it can be read every second."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import redis

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.core.states import State, Verb
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable

#: Rates are those of the last so many milliseconds, or of the newest entries when these cover less.
SPAN_MS = 10_000
_TAIL = 500
_LANES = 100
_FAILURES = 10
_RATES = {"admitted": Verb.ADMIT, "started": Verb.CLAIM, "completed": Verb.COMPLETE, "failed": Verb.DISCARD}
_TURNED_AWAY = {"", State.DISCARDED}


def take_pulse(store: Store) -> dict[str, Any]:
    """A snapshot with `rates` (per second) of the whole and of each family, and the newest `failures`.

    What is read does not grow with the jobs or the stream. Raises CoreUnreachable.
    """
    try:
        picture = store.view.snapshot(lanes=_LANES)
        failures = store.dead.newest(_FAILURES)
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
        raise CoreUnreachable(f"Redis does not answer: {type(error).__name__}") from error
    tail = store.history.tail(_TAIL)
    rates = rates_of(tail, picture["taken_at_ms"], is_whole=len(tail) < _TAIL)
    nothing = dict.fromkeys(_RATES, 0.0)
    for family in picture["families"]:
        family["rates"] = rates["families"].get(family["family"], nothing)
    return {**picture, "rates": rates["all"], "failures": failures}


def rates_of(tail: Sequence[Entry], now_at: int, *, is_whole: bool) -> dict[str, Any]:
    """Moves per second in the last SPAN_MS: `all`, and `families` by name.

    `tail`: the newest entries, the newest first. `is_whole`: there are no others; else they may cover
    less than SPAN_MS, and count for the time that they cover.
    """
    newest = [entry for entry in tail if entry.at > now_at - SPAN_MS]
    covers_all = is_whole or len(newest) < len(tail)
    span_ms = SPAN_MS if covers_all else max(1, now_at - newest[-1].at)
    families: defaultdict[str, Counter[str]] = defaultdict(Counter)
    whole: Counter[str] = Counter()
    for entry in newest:
        if entry.verb != Verb.ADMIT or entry.to_state not in _TURNED_AWAY:
            families[entry.family][entry.verb] += 1
            whole[entry.verb] += 1

    def rates(of: Counter[str]) -> dict[str, float]:
        return {name: round(of[verb] * 1_000 / span_ms, 2) for name, verb in _RATES.items()}

    return {"all": rates(whole), "families": {name: rates(of) for name, of in families.items()}}
