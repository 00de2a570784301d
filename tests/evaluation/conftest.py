"""A stage on the Redis of the test process: each world begins empty, and one takes about a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joelclaw_tasks.evaluation.bench import Bench, open_bench
from joelclaw_tasks.evaluation.family import write_registry
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.play import Stage
from joelclaw_tasks.evaluation.scenario import MINUTE_MS, Scenario, make_scenario
from joelclaw_tasks.intelligence.breaker import Breaker
from joelclaw_tasks.settings import Settings


@pytest.fixture
def stage(redis_url: str, tmp_path: Path) -> Stage:
    registry = write_registry(tmp_path / "registry")
    return Stage(Settings(redis_url=redis_url, registry_dir=tmp_path / "registry", home=tmp_path), registry)


@pytest.fixture(scope="module")
def shared_bench() -> Iterator[Bench]:
    with open_bench(Settings()) as bench:
        yield bench


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """One whose models have not failed yet."""
    shared_bench.scripted.breaker = Breaker()
    return shared_bench


def short(kind: FaultKind, seed: int, minutes: int = 20) -> Scenario:
    """The first minutes of a world: what comes in later is left out."""
    scenario = make_scenario(kind, seed)
    return replace(
        scenario, arrivals=tuple(each for each in scenario.arrivals if each.at_ms < minutes * MINUTE_MS)
    )
