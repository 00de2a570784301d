"""Whatever an operator proposes, nothing that is forbidden is ever applied."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joelclaw_tasks.intelligence.actions import (
    Batch,
    Noop,
    Pause,
    Reprioritize,
    Resume,
    Shed,
    Throttle,
)
from tests.observer.conftest import (
    FAMILIES,
    HOUR,
    MINUTE,
    asked,
    busy,
)

GATES = ["limit:handler/note.do", "limit:handler/mail.do", "limit:resource/nas", "limit:x"]
FAMILY = st.sampled_from([*FAMILIES, "nobody", "joelclaw.observe"])
TTL = st.integers(1, 10**11)
REASON = st.text(min_size=1, max_size=30).map(lambda text: f"x{text}")
ANY = st.one_of(
    st.builds(Pause, family=FAMILY, reason=REASON, ttl_ms=TTL),
    st.builds(Resume, family=FAMILY, reason=REASON, probe=st.booleans()),
    st.builds(Reprioritize, family=FAMILY, priority=st.integers(0, 3), reason=REASON, ttl_ms=TTL),
    st.builds(
        Throttle, family=FAMILY, reason=REASON, ttl_ms=TTL, most=st.integers(1, 9), period_ms=st.none(),
        gate=st.sampled_from(GATES),
    ),
    st.builds(Batch, family=FAMILY, reason=REASON, ttl_ms=TTL),
    st.builds(Shed, family=FAMILY, reason=REASON, ttl_ms=TTL),
    st.builds(Noop, reason=REASON),
)  # fmt: skip


@settings(
    max_examples=130,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(
    plan=st.lists(st.lists(ANY, min_size=8, max_size=16), min_size=1, max_size=3),
    auto=st.sets(st.sampled_from(list(FAMILIES))),
    persons=st.sets(st.sampled_from(list(FAMILIES)), max_size=2),
)
def test_whatever_is_proposed_nothing_forbidden_is_ever_applied(world, plan, auto, persons):
    world.store.client.flushall()
    world.store.limit(
        {"limit:handler/note.do": 4, "limit:handler/mail.do": 4, "limit:resource/nas": 2},
        actor="registry", reason="",
    )  # fmt: skip
    busy(world)
    world.work(50)
    busy(world)
    for family in persons:
        world.queue.pause(f"family/{family}", ttl="1h")
    set_by_people = [act for act in world.store.controls() if act["actor"] == "joel"]

    for actions in plan:
        asked(world, *actions, auto=frozenset(auto))

    acts = [act for act in world.store.acts() if act["actor"] == "observer"]
    allowed = auto - persons - {"pay"}
    assert {name_of(act) for act in acts} <= allowed
    assert all(MINUTE <= act["until"] - act["at"] <= 24 * HOUR for act in acts if act.get("until"))
    assert all(act.get("until") for act in acts if act["verb"] != "resume")
    assert len(acts) <= 8 * len(plan)
    assert len(world.pauses()) <= max(2, len(persons))
    assert set_by_people == [act for act in world.store.controls() if act["actor"] == "joel"]
    limits = world.store.client.hgetall(world.store.keys.limits)
    assert all(int(limits[gate]) <= 4 for gate in (b"limit:handler/note.do", b"limit:handler/mail.do"))
    assert b"2" == limits[b"limit:resource/nas"]


def name_of(act: dict[str, Any]) -> str:
    target = act.get("where") or act["target"]
    name = target.partition("/")[2]
    return name.removesuffix(".do") if target.startswith("limit:") else name
