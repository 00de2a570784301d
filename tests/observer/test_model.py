"""A model as the operator, by HTTP: the same policy, the same verbs; the rules stand in when it is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.local.act import Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.observer.conftest import World, applied, refused

KEY = "sk-" + "ant-test-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def operated(world: World, api: MessagesApi) -> Iterator[Callable[..., Any]]:
    """Make a pass with a model that says what is given."""
    tiers = Registry.load(Settings().registry_dir).tiers
    client = ModelClient(tiers, Spending(world.store), Credentials(KEY), base_url=api.url)

    def make_pass(said: Any) -> Any:
        api.script(said)
        if isinstance(said, Fault):
            api.script(said)  # the tier that it falls back to is asked as well
        return world.observer(ModelOperator(client, budget_ms=30_000)).make_pass()

    yield make_pass
    client.close()


def said(*actions: dict[str, Any]) -> dict[str, Any]:
    return {"summary": "Mail fails.", "actions": list(actions)}


def pause(family: str, ttl_ms: int = 300_000) -> dict[str, Any]:
    return {"kind": "pause", "family": family, "reason": "It fails.", "ttl_ms": ttl_ms}


def test_what_it_proposes_is_done_within_the_policy(world: World, operated: Callable[..., Any]):
    world.admit("mail", 3)
    world.admit("pay", 3)
    done = operated(said(pause("mail", 5), pause("pay"), pause("invented")))
    assert ("enforce", "sonnet", None) == (done.status, done.operator, done.fallback)
    assert [("pause", "mail")] == applied(done)
    assert ["protected", "unknown_family"] == refused(done)
    [control] = world.store.controls()
    assert ("observer", "pause:family/mail") == (control["actor"], control["target"])
    assert 60_000 == control["until"] - control["at"]


@pytest.mark.parametrize("fault", [Fault.OVERLOADED, Fault.HTML, Fault.NOT_JSON, Fault.UNSAFE])
def test_when_it_is_away_the_rules_stand_in_and_the_record_says_so(
    world: World, operated: Callable[..., Any], fault: Fault
):
    world.admit("mail", 30)
    for _ in range(8):
        world.work(1, error="Refused: the server is away")
    done = operated(fault)
    assert "static" == done.operator
    assert done.fallback.startswith("NoAnswer: ")
    assert [("pause", "mail")] == applied(done)
