"""The whole report: the same for equal seeds, and with a live model when one is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.dispatcher import judge
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.observing import play_everybody, summary_of
from joelclaw_tasks.evaluation.report import evaluate
from joelclaw_tasks.evaluation.scripted import operate
from joelclaw_tasks.intelligence.local.act import Asked
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.settings import Settings

pytestmark = pytest.mark.timeout(180)


def answer(asked: Asked) -> Any:
    return operate(asked) if "<snapshot>" in asked.per_call else judge(asked)


def test_a_live_model_is_asked_by_its_address_and_key_and_what_it_costs_is_counted():
    key = "sk-" + "ant-test-0123456789abcdefghijklmnop"
    said: list[str] = []
    with MessagesApi(answer, keys={key}) as api:
        settings = Settings(anthropic_base_url=api.url, anthropic_api_key=key)

        report = evaluate(settings, seed=1, worlds=1, quick=True, live=True, say=said.append)

        asked = [each for each in api.requests if "<evidence>" not in each.per_call]  # not of diagnosis
        assert report["observer"]["live"]["asked"] + 2 == len(asked)  # two calls of triage
        assert len(api.requests) > len(asked)
    live, scripted = report["observer"]["live"], report["observer"]["scripted"]
    assert (0, 0, 0) == (live["regret"], live["fallbacks"], live["forbidden_applied"])
    assert 0 < live["forbidden_proposed"] == scripted["forbidden_proposed"]
    assert 0 < live["cost_usd"] == pytest.approx(scripted["cost_usd"], rel=0.05)
    assert report["triage"]["tau"] == report["triage"]["live"]["tau"]
    assert ["playing 1 worlds", "1 of 1 worlds are played"] == said
    assert key not in str(report)


def test_a_world_has_the_same_report_each_time(bench: Bench):
    first, second = (
        summary_of([play_everybody(bench, 0, FaultKind.DEPLOY, 1, scripted=False)]) for _ in range(2)
    )
    assert first == second
    assert 0 < first["static"]["regret"] < first["nothing"]["regret"]
    assert {"oracle", "nothing", "static"} < set(first["worlds"][0])
    assert "scripted" not in first
