"""Reading a plan: either a Plan, or every fault of it at once, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_faults import dotted, nearest, plain_faults, shown
from joelclaw_tasks.restate.plan import (
    MOST_BYTES,
    MOST_ELEMENTS,
    NODE_MODELS,
    UNDO_MODELS,
    HttpNode,
    Plan,
    Request,
    Retries,
    Task,
    TaskNode,
)
from joelclaw_tasks.restate.references import ITEM, BadReference, parts_of, references_in

_MOST_SHOWN = 50


class PlanRefused(JoelclawError):
    """A plan cannot be carried out; `faults` lists every fault. Nothing was run."""

    code = "DAG_INVALID"
    fix = "Correct the named fields; docs/dag.md shows what a plan looks like."

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        count = len(faults)
        listing = "\n".join(f"  - {fault}" for fault in faults[:_MOST_SHOWN])
        more = f"\n  - and {count - _MOST_SHOWN} more" if count > _MOST_SHOWN else ""
        super().__init__(f"the plan has {count} fault{'s' * (count != 1)}:\n{listing}{more}")


def read_plan(document: bytes | str, registry: Registry | None = None) -> Plan:
    """The plan in a JSON document. With a registry, handlers and events must be in it. Raises PlanRefused."""
    raw = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
    if len(raw) > MOST_BYTES:
        raise PlanRefused([f"it has {len(raw):,} bytes; at most {MOST_BYTES:,} are taken"])
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PlanRefused([f"it is not JSON: {str(error).splitlines()[0][:200]}"]) from None
    try:
        plan = Plan.model_validate_json(raw)
    except ValidationError as error:
        raise PlanRefused(_field_faults(error, value) + _loose_faults(value)) from None
    faults = [*_graph_faults(plan), *_reference_faults(plan)]
    if registry is not None:
        faults += _registry_faults(plan, registry)
    if faults:
        raise PlanRefused(faults)
    return plan


def _field_faults(error: ValidationError, value: Any) -> list[str]:
    said: list[str] = []
    if any(found["type"] == "json_invalid" for found in error.errors(include_url=False, include_input=False)):
        return ["it is not JSON: it holds something that is no text or number"]  # which Python lets pass
    for found, (place, sentence) in zip(
        error.errors(include_url=False), plain_faults(error, value, _model_at), strict=False
    ):
        if found["type"] in ("union_tag_invalid", "union_tag_not_found"):
            known = UNDO_MODELS if "undo" in found["loc"] else NODE_MODELS
            tag = found.get("input", {}).get("type") if isinstance(found.get("input"), dict) else None
            sentence = f"its type must be one of {', '.join(known)}, not {shown(tag)}"  # noqa: PLW2901
        said.append(f"{_named(found['loc'], value) or place or 'the plan'} {sentence}")
    return list(dict.fromkeys(said))


def _named(place: tuple[Any, ...], value: Any) -> str:
    """A place with the id of its node, which people know; without the words of pydantic's unions."""
    parts = [part for part in place if not (isinstance(part, str) and part in _TAGS)]
    if len(parts) >= 2 and parts[0] == "nodes" and isinstance(parts[1], int):
        node = value["nodes"][parts[1]]
        id = node.get("id") if isinstance(node, dict) else None
        return dotted((f"node {id[:64]}" if isinstance(id, str) else f"nodes[{parts[1]}]", *parts[2:]))
    return dotted(tuple(parts))


_TAGS = {*NODE_MODELS, "list[any]", "dict[str,any]", "constrained-str"}


def _model_at(place: tuple[str, ...]) -> type[BaseModel] | None:
    if not place:
        return Plan
    if place[-1] == "retries":
        return Retries
    tag = place[-1]
    return (UNDO_MODELS if "undo" in place else NODE_MODELS).get(tag)


def _loose_faults(value: Any) -> list[str]:
    """What can be said of ids and dependencies although some fields are wrong."""
    nodes = value.get("nodes") if isinstance(value, dict) else None
    pairs = [
        (node["id"], [each for each in needs if isinstance(each, str)])
        for node in (nodes if isinstance(nodes, list) else [])
        if isinstance(node, dict) and isinstance(node.get("id"), str)
        and isinstance(needs := node.get("depends_on", []), list)
    ]  # fmt: skip
    return list(_shape_faults(pairs))


def _shape_faults(nodes: list[tuple[str, list[str]]]) -> Iterator[str]:
    known: set[str] = set()
    for id, _ in nodes:
        if id in known:
            yield f"node {id[:64]} is there twice; ids must differ"
        known.add(id)
        if id == ITEM:
            yield f"node {ITEM}: this id is taken by the element of a for_each; choose another"
    for id, needs in nodes:
        for need in dict.fromkeys(needs):
            if need == id:
                yield f"node {id[:64]} depends on itself"
            elif need not in known:
                near = nearest(need, list(known))
                yield f"node {id[:64]} depends on {need[:64]!r}, which is not there{near}"


def _graph_faults(plan: Plan) -> Iterator[str]:
    yield from _shape_faults([(node.id, node.depends_on) for node in plan.nodes])
    for cycle in _cycles(plan):
        yield f"these depend on each other in a circle: {' → '.join([*cycle, cycle[0]])}"


def _cycles(plan: Plan) -> Iterator[list[str]]:
    """One circle of each knot of nodes that wait for each other; without recursion, plans are long."""
    known = {node.id for node in plan.nodes}
    placed = {id for wave in plan.waves() for id in wave}
    needs = {
        node.id: [
            need for need in node.depends_on if need in known and need not in placed and need != node.id
        ]
        for node in plan.nodes
        if node.id not in placed
    }
    seen: set[str] = set()
    for start in needs:
        way: list[str] = []
        at: str | None = start
        while at is not None and at not in seen:
            seen.add(at)
            way.append(at)
            at = next(iter(needs[at]), None)
        if at in way:
            yield way[way.index(at) :][::-1]


def _ancestors(plan: Plan) -> dict[str, set[str]]:
    """For each node everything that it waits for."""
    needs = {node.id: node.depends_on for node in plan.nodes}
    found: dict[str, set[str]] = {}
    for wave in plan.waves():
        for id in wave:
            found[id] = {up for need in needs[id] for up in (need, *found.get(need, ()))}
    return found


def _reference_faults(plan: Plan) -> Iterator[str]:
    known = {node.id for node in plan.nodes}
    ancestors = _ancestors(plan)
    for node in plan.nodes:
        reachable = ancestors.get(node.id)
        if reachable is None:  # on a circle, which is said already
            continue
        for_each = getattr(node, "for_each", None)
        if isinstance(for_each, list) and len(for_each) > MOST_ELEMENTS:
            yield f"node {node.id}.for_each has {len(for_each)} elements; at most {MOST_ELEMENTS} are taken"
        if isinstance(for_each, dict):
            yield from _found_faults(f"node {node.id}.for_each", for_each, known, reachable, "")
        allowed = reachable | {ITEM} if for_each is not None else reachable
        if isinstance(node, HttpNode | TaskNode):
            yield from _found_faults(f"node {node.id}", _inputs(node), known, allowed, node.id)
        if node.undone_by is not None:
            after = allowed | {node.id}
            yield from _found_faults(f"node {node.id}.undo", _inputs(node.undone_by), known, after, "")
    yield from _found_faults("output", plan.output, known, known, "")


def _inputs(step: Request | Task) -> Any:
    return step.data if isinstance(step, Task) else [step.url, step.body]


def _found_faults(place: str, value: Any, known: set[str], allowed: set[str], own: str) -> Iterator[str]:
    try:
        references = dict.fromkeys(references_in(value))
    except BadReference as error:
        yield f"{place}: {error}"
        return
    for reference in references:
        try:
            name, _ = parts_of(reference)
        except BadReference as error:
            yield f"{place}: {error}"
            continue
        if name == ITEM and ITEM not in allowed:
            yield f"{place} refers to item, and is not in a for_each"
        elif name != ITEM and name not in known:
            yield f"{place} refers to {name[:64]!r}, which is not there{nearest(name, list(known))}"
        elif name == own:
            yield f"{place} refers to its own output"
        elif name not in allowed:
            yield f"{place} refers to {name}, which it does not depend on; add it to depends_on"


def _registry_faults(plan: Plan, registry: Registry) -> Iterator[str]:
    if plan.emits is not None and plan.emits not in registry.events:
        yield f"emits: no event is named {shown(plan.emits)}{nearest(plan.emits, list(registry.events))}"
    for node in plan.nodes:
        for place, step in ((node.id, node), (f"{node.id}.undo", node.undone_by)):
            if isinstance(step, Task) and step.handler not in registry.handlers:
                near = nearest(step.handler, list(registry.handlers))
                yield f"node {place}: no handler is named {shown(step.handler)}{near}"
