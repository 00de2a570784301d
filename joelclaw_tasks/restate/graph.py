"""The graph of a plan for people: as text, wave by wave, and as Mermaid; with states when it runs."""

from __future__ import annotations

from collections.abc import Mapping

from joelclaw_tasks.restate.plan import ApprovalNode, HttpNode, Plan, TaskNode, WaitNode

_MARKS = {
    "waiting": "·", "running": "▸", "completed": "✓", "failed": "✗", "cancelled": "-", "skipped": "-",
}  # fmt: skip
_FILLS = {
    "running": "#cde4ff", "completed": "#d6f5d6", "failed": "#ffd6d6", "cancelled": "#eeeeee",
    "skipped": "#eeeeee",
}  # fmt: skip


def what_of(node: HttpNode | TaskNode | ApprovalNode | WaitNode) -> str:
    """What a node does, in a few words."""
    match node:
        case TaskNode():
            return f"task {node.handler}"
        case ApprovalNode():
            return "approval"
        case WaitNode():
            return f"wait {node.seconds:g} s"
        case HttpNode():
            return f"http {node.method}"


def as_text(plan: Plan, states: Mapping[str, str] | None = None) -> str:
    """A line for each node under its wave: mark, id, what it does, what it depends on."""
    lines = []
    by_id = {node.id: node for node in plan.nodes}
    for number, wave in enumerate(plan.waves(), start=1):
        lines.append(f"wave {number}")
        for id in wave:
            node = by_id[id]
            mark = _MARKS.get((states or {}).get(id, "waiting"), "·")
            each = " for each" if getattr(node, "for_each", None) is not None else ""
            after = f"  ← {', '.join(node.depends_on)}" if node.depends_on else ""
            lines.append(f"  {mark} {id}  {what_of(node)}{each}{after}")
    return "\n".join(lines)


def as_mermaid(plan: Plan, states: Mapping[str, str] | None = None) -> str:
    """A flowchart for Mermaid. Nodes have numbers there: an id of ours may be a word of its language."""
    numbers = {node.id: f"n{number}" for number, node in enumerate(plan.nodes)}
    lines = ["flowchart TD"]
    for node in plan.nodes:
        each = " for each" if getattr(node, "for_each", None) is not None else ""
        left, right = ("{{", "}}") if isinstance(node, ApprovalNode) else ("[", "]")
        lines.append(f'  {numbers[node.id]}{left}"{node.id}<br/>{what_of(node)}{each}"{right}')
    for node in plan.nodes:
        lines += [f"  {numbers[need]} --> {numbers[node.id]}" for need in dict.fromkeys(node.depends_on)]
    for state, fill in _FILLS.items():
        members = [numbers[id] for id, found in (states or {}).items() if found == state and id in numbers]
        if members:
            lines += [f"  classDef {state} fill:{fill}", f"  class {','.join(members)} {state}"]
    return "\n".join(lines)
