"""Control history: what was done to gates and queues, counted and listed."""

from __future__ import annotations

from joelclaw_tasks.core.history import Entry
from joelclaw_tasks.telemetry.control_history import control_history


def act(verb, actor="joel", **fields):
    fields = {"verb": verb, "at": "5", "actor": actor, **fields}
    return Entry("5-0", {name: str(value) for name, value in fields.items()})


def test_no_acts_are_counted_as_none():
    counts = {"applied": 0, "lifted": 0, "expired": 0, "rejected": 0}
    assert {"counts": counts, "recent_events": [], "found": 0} == control_history([], limit=5)


def test_each_act_is_counted_by_what_came_of_it():
    acts = [
        act("pause", gate="g"), act("limit", gate="g"), act("resume", gate="g"), act("undo", target="t"),
        act("resume", "expiry", gate="g"), act("refuse", "observer", of="pause", target="g"),
    ]  # fmt: skip

    assert {"applied": 2, "lifted": 2, "expired": 1, "rejected": 1} == (
        control_history(acts, limit=5)["counts"]
    )


def test_the_newest_acts_are_told_and_only_so_many():
    acts = [
        act("limit", gate="limit:x", limit="3", was="5", reason="r", expires_at="9"),
        act("pause", gate="g"),
    ]

    told = control_history(acts, limit=1)

    assert 2 == told["found"]
    assert [
        {
            "at": 5, "verb": "limit", "target": "limit:x", "outcome": "applied", "until": 9, "actor": "joel",
            "reason": "r", "value": "3", "was": "5",
        }
    ] == told["recent_events"]  # fmt: skip
