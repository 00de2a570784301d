"""joelclaw queue control status against a real Redis."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import HeldByPerson
from tests.cli.conftest import JoelclawProcess

GATE = "pause:queue/default"


def test_nothing_was_ever_done(joelclaw: JoelclawProcess) -> None:
    control = joelclaw("queue", "control", "status").result["control"]

    assert (control["active"], control["recent_events"]) == ([], [])
    assert control["counts"] == {"applied": 0, "lifted": 0, "expired": 0, "rejected": 0}
    assert "nothing is in force" in joelclaw.on_terminal("queue", "control", "status").screen


def test_a_pause_is_in_force_with_who_why_and_until_when(joelclaw: JoelclawProcess, store: Store) -> None:
    store.pause(GATE, actor="joel@cli", reason="the NAS \x1b[2J is away", ttl_ms=600_000)
    store.pause("pause:family/x", actor="amy@cli", reason="")
    store.resume("pause:family/x", actor="joel@cli", reason="enough")

    piped = joelclaw("queue", "control", "status")

    control = piped.result["control"]
    [active] = control["active"]
    assert (active["verb"], active["target"], active["actor"]) == ("pause", GATE, "joel@cli")
    assert active["until"] == active["at"] + 600_000
    assert control["counts"] == {"applied": 2, "lifted": 1, "expired": 0, "rejected": 0}
    assert [event["verb"] for event in control["recent_events"]] == ["resume", "pause", "pause"]
    assert control["recent_events"][0]["reason"] == "enough"
    assert piped.next_commands[0] == f"joelclaw queue resume {GATE}"
    screen = joelclaw.on_terminal("queue", "control", "status").screen
    assert "1 in force" in screen
    assert "the NAS \\x1b[2J is away" in screen
    assert "for another 9 min" in screen


def test_a_limit_is_in_force_with_its_value_and_what_was_before(
    joelclaw: JoelclawProcess, store: Store
) -> None:
    store.limit({"limit:nas": 5}, actor="registry", reason="the registry says so")
    store.limit({"limit:nas": 2}, actor="joel@cli", reason="it is slow", ttl_ms=600_000)

    control = joelclaw("queue", "control", "status").result["control"]

    [active] = control["active"]
    assert (active["verb"], active["target"], active["value"], active["base"]) == (
        "limit",
        "limit:nas",
        "2",
        "5",
    )
    assert [(event["actor"], event["value"]) for event in control["recent_events"]] == [
        ("joel@cli", "2"),
        ("registry", "5"),
    ]
    screen = joelclaw.on_terminal("queue", "control", "status").screen
    assert f"limit limit:nas = 2 {active['id']}" in screen


def test_what_the_observer_was_refused_is_told(joelclaw: JoelclawProcess, store: Store) -> None:
    store.pause(GATE, actor="joel@cli", reason="stock-taking")
    with pytest.raises(HeldByPerson):
        store.resume(GATE, actor="observer", reason="nothing waits")

    control = joelclaw("queue", "control", "status").result["control"]

    assert control["counts"]["rejected"] == 1
    refused = control["recent_events"][0]
    assert (refused["outcome"], refused["of"], refused["target"]) == ("rejected", "resume", GATE)
    assert "refuse resume" in joelclaw.on_terminal("queue", "control", "status").screen


def test_the_limit_cuts_the_list_and_not_the_counts(joelclaw: JoelclawProcess, store: Store) -> None:
    for number in range(5):
        store.pause(GATE, actor="joel@cli", reason=f"{number}")

    control = joelclaw("queue", "control", "status", "--limit", "2").result["control"]

    assert [event["reason"] for event in control["recent_events"]] == ["4", "3"]
    assert control["counts"]["applied"] == control["window"]["found"] == 5


def test_control_alone_names_its_commands(joelclaw: JoelclawProcess) -> None:
    [command] = joelclaw("queue", "control").result["commands"]

    assert command["command"] == "joelclaw queue control status"
