"""Draws the state chart of docs/state_machine.md: `python -m tests.core.chart` writes it."""

from __future__ import annotations

from pathlib import Path

from joelclaw_tasks.core.states import FINAL, TRANSITIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "state_machine.md"
BEGIN, END = "```mermaid\n", "```\n"


def chart() -> str:
    """The Mermaid text of TRANSITIONS, one arrow for each pair of states, in the order of the table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for origin, verb, target in TRANSITIONS:
        arrows.setdefault((origin.value if origin else "[*]", target.value), []).append(verb.value)
    lines = ["stateDiagram-v2"]
    lines += [f"    {origin} --> {target}: {', '.join(verbs)}" for (origin, target), verbs in arrows.items()]
    lines += [f"    {state.value} --> [*]" for state in sorted(FINAL)]
    return "\n".join(lines) + "\n"


def drawn(page: str) -> str:
    """The chart that a page holds."""
    return page.partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page.replace(BEGIN + drawn(page) + END, BEGIN + chart() + END))
