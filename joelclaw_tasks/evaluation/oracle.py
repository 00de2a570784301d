"""Oracle: knows the faults of a world beforehand. What it does costs least; regret is counted from there.

It plays each of its plans, and keeps the best: to do nothing; to pause exactly while a downstream is down, if
an operator might pause that family; to give a flood half of its places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from joelclaw_tasks.evaluation.cost import Cost, cost_of
from joelclaw_tasks.evaluation.family import STEERABLE, family
from joelclaw_tasks.evaluation.play import Played, Stage, Steered
from joelclaw_tasks.evaluation.scenario import LENGTH_MS, MINUTE_MS, Scenario
from joelclaw_tasks.steering.queue import Queue

NAME = "oracle"


def best_of(stage: Stage, scenario: Scenario, nothing: Played) -> tuple[Cost, str]:
    """The cost of the best plan, and which it is. `nothing` is the world as it went without anybody."""
    found = {"nothing": cost_of(nothing)}
    for name, steered in plans_of(scenario):
        found[name] = cost_of(stage.play(scenario, observed=False, steered=steered))
    name = min(found, key=lambda each: (found[each].total, each))
    return found[name], name


def plans_of(scenario: Scenario) -> Iterator[tuple[str, Sequence[Steered]]]:
    """What it tries beside doing nothing."""
    faults = scenario.faults
    spans = [
        (each.family, each.begins_ms, each.ends_ms)
        for each in faults.windows
        if each.family in STEERABLE and faults.held is None
    ]
    if spans:
        yield "pause", [step for span in spans for step in _pause(*span)]
    if faults.congested is not None:
        # A minute more, until what it counts by the minute is forgotten.
        yield "pause_longer", [step for name, a, b in spans for step in _pause(name, a, b + MINUTE_MS)]
    if len(spans) > 1:
        yield "pause_all_along", _pause(spans[0][0], spans[0][1], spans[-1][2])
    if faults.flooded is not None:
        yield "throttle", [_throttle(*faults.flooded[:2])]


def _pause(name: str, begins_ms: int, ends_ms: int) -> list[Steered]:
    gate = f"pause:family/{name}"

    def steer(verb: str, **options: object) -> Callable[[Queue], object]:
        return lambda queue: getattr(queue, verb)(gate, reason="it knows", actor=NAME, **options)

    return [Steered(begins_ms, steer("pause", ttl=None)), Steered(ends_ms, steer("resume"))]


def _throttle(name: str, begins_ms: int) -> Steered:
    handler = family(name)
    seconds = (LENGTH_MS - begins_ms) / 1_000

    def limit(queue: Queue) -> object:
        return queue.limit(
            f"limit:handler/{handler.handler}", handler.limit // 2, ttl=seconds, reason="it knows", actor=NAME
        )

    return Steered(begins_ms, limit)
