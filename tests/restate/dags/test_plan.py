"""Plans: every fault of one is said at once, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.graph import as_mermaid, as_text
from joelclaw_tasks.restate.plan import MOST_BYTES, Retries
from joelclaw_tasks.restate.plan_faults import PlanRefused, read_plan
from joelclaw_tasks.restate.references import BadReference, resolved

ROOT = Path(__file__).parents[3]


def wait(id: str, *after: str) -> dict[str, Any]:
    return {"id": id, "type": "wait", "seconds": 1, "depends_on": [*after]}


def post(id: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "http", "url": "http://127.0.0.1:9/", "depends_on": [*after], **fields}


def faults(*nodes: Any, registry: Registry | None = None, **fields: Any) -> list[str]:
    with pytest.raises(PlanRefused) as caught:
        read_plan(json.dumps({"nodes": [*nodes], **fields}), registry)
    return list(caught.value.faults)


def test_all_faults_of_all_fields_are_named_by_node_and_field():
    said = faults(
        {"id": "a", "type": "htp"},
        {"id": "a", "type": "http", "url": 5, "undo": {"type": "x"}},
        {"id": "b", "type": "wait", "seconds": -1, "depends_on": ["b", "zz"], "secs": 3},
        post("c", retries={"mx": 1}, undo={"type": "http", "ulr": "x"}),
        {"type": "wait"},
        name="",
    )
    expected = [
        'node a its type must be one of http, task, approval, wait, not "htp"',
        'node a.url must be a text in double quotes, such as "text", not 5',
        'node a.undo its type must be one of http, task, not "x"',
        "node b.seconds must be more than 0, not -1",
        'node b.secs is not a known field; did you mean "seconds"?',
        'node c.retries.mx is not a known field; did you mean "max"?',
        "node c.undo.url is missing; add it",
        'node c.undo.ulr is not a known field; did you mean "url"?',
        "nodes[4].id is missing; add it",
        "node a is there twice; ids must differ",
        "node b depends on itself",
        "node b depends on 'zz', which is not there; known here: a, b, c",
    ]
    assert [] == [one for one in expected if one not in said]


def test_circles_are_shown_and_what_is_only_behind_one_is_not():
    said = faults(
        wait("a", "c"), wait("b", "a"), wait("c", "b"), wait("behind", "a"), wait("x", "y"), wait("y", "x"),
        wait("alone"),
    )  # fmt: skip
    assert 2 == len(said)
    assert "these depend on each other in a circle: b → c → a → b" == said[0]
    assert said[1] in {f"these depend on each other in a circle: {one}" for one in ("x → y → x", "y → x → y")}


def test_references_must_lead_to_what_a_step_waits_for():
    said = faults(
        wait("early"),
        wait("other"),
        post("a", "early", body=[{"$ref": "early.output.waited_s"}, {"$ref": "other.output"}]),
        post("b", "a", body={"deep": {"$ref": "early.output"}, "own": {"$ref": "b.output"}}),
        post("c", body={"x": {"$ref": "item"}, "y": {"$ref": "aa.output"}, "z": {"$ref": "a"}}),
        post("d", "early", for_each={"$ref": "other.output"}, body={"$ref": "item.x"}),
        post("e", undo={"type": "http", "url": {"$ref": "e.output.body"}, "body": {"$ref": "a.output"}}),
        post("f", for_each=[0] * 1_001),
        output={"$ref": "nobody.output"},
    )
    assert [
        "node a refers to other, which it does not depend on; add it to depends_on",
        "node b refers to its own output",
        "node c refers to item, and is not in a for_each",
        "node c refers to 'aa', which is not there",
        'node c: "a" is no reference; write <id of a step>.output.<field>, or item',
        "node d.for_each refers to other, which it does not depend on; add it to depends_on",
        "node e.undo refers to a, which it does not depend on; add it to depends_on",
        "node f.for_each has 1001 elements; at most 1000 are taken",
        "output refers to 'nobody', which is not there",
    ] == [one.partition("; known here")[0].partition("; did you mean")[0] for one in said]


def test_handlers_and_events_must_be_in_the_registry():
    registry = Registry.load(ROOT / "registry")
    said = faults(
        {"id": "a", "type": "task", "handler": "discovery.captur"},
        post("b", undo={"type": "task", "handler": "nothing.like"}),
        registry=registry,
        emits="discovery/note",
    )
    assert 'emits: no event is named "discovery/note"; did you mean "discovery/noted"?' == said[0]
    assert 'node a: no handler is named "discovery.captur"; did you mean "discovery.capture"?' == said[1]
    assert said[2].startswith('node b.undo: no handler is named "nothing.like"')
    assert 3 == len(said)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[", b"[]", b"5", b'{"nodes": []}', b'{"nodes": {}}', b"\xff\xfe", b'{"nodes": [5, null, []]}',
        b"[" * 100_000, b'{"nodes": [{"id": {"a": 1}, "type": []}]}', b" " * (MOST_BYTES + 1),
        b'{"nodes": [{"id": "a", "type": "wait", "seconds": NaN}]}',
        b'{"nodes": [{"id": "a", "type": "http", "url": "x", "body": %s1%s}]}' % (b"[" * 80, b"]" * 80),
        b'{"nodes": [{"id": "a", "type": "wait", "seconds": 1, "depends_on": ["\\ud800"]}]}',
        json.dumps({"nodes": [wait(f"n{n}") for n in range(1_001)]}).encode(),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(document: bytes):
    with pytest.raises(PlanRefused):
        read_plan(document)


def test_500_nodes_in_a_row_and_a_thousand_faults_are_no_trouble():
    row = [wait(f"n{n}", *([f"n{n - 1}"] if n else [])) for n in range(500)]
    plan = read_plan(json.dumps({"nodes": row}))
    assert [[f"n{n}"] for n in range(500)] == list(plan.waves())
    row[0]["depends_on"] = ["n499"]
    [circle] = faults(*row)
    assert 500 == circle.count(" → ")
    many = [wait(f"n{n}", "nobody") for n in range(1_000)]
    with pytest.raises(PlanRefused) as caught:
        read_plan(json.dumps({"nodes": many}))
    assert 1_000 == len(caught.value.faults)
    assert "and 950 more" in str(caught.value)


def test_a_reference_is_replaced_once_and_what_comes_from_outside_is_no_reference():
    outputs = {"a": {"list": [{"x": 5}], "evil": {"$ref": "b.output"}}, "b": "secret", "item": {"k": 1}}
    value = {"x": {"$ref": "a.output.list.0.x"}, "all": [{"$ref": "a.output.evil"}], "i": {"$ref": "item.k"}}
    assert {"x": 5, "all": [{"$ref": "b.output"}], "i": 1} == resolved(value, outputs)
    for wrong in ("a.output.none", "a.output.list.1", "a.output.list.-1", "c.output", "b.output.0"):
        with pytest.raises(BadReference):
            resolved({"$ref": wrong}, outputs)


def test_waits_between_tries_grow_to_their_cap():
    retries = Retries(max=9, base_s=1, cap_s=5)
    assert [1, 2, 4, 5, 5] == [retries.wait_s(tried) for tried in (1, 2, 3, 4, 1_000)]


def test_a_graph_shows_waves_states_and_what_depends_on_what():
    gate = {"id": "end", "type": "approval", "question": "Sure?", "depends_on": ["a", "b"]}
    plan = read_plan(json.dumps({"nodes": [post("a"), post("b", "a", for_each=[1]), gate]}))
    assert (
        "wave 1\n  ✓ a  http POST\nwave 2\n  ▸ b  http POST for each  ← a\nwave 3\n  · end  approval  ← a, b"
    ) == as_text(plan, {"a": "completed", "b": "running"})
    drawn = as_mermaid(plan, {"a": "completed"})
    assert drawn.startswith('flowchart TD\n  n0["a<br/>http POST"]\n  n1["b<br/>http POST for each"]\n')
    assert '  n2{{"end<br/>approval"}}' in drawn
    assert "  n0 --> n1\n  n0 --> n2\n  n1 --> n2" in drawn
    assert drawn.endswith("class n0 completed")
