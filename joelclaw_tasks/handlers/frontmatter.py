"""YAML frontmatter, read so that a malformed block is a finding and never hides the body."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding

MAX_CHARACTERS = 65_536
_OPENING = re.compile(r"\ufeff?---[ \t]*\r?\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """A Markdown text taken apart.

    Every scalar in `fields` is text as written: YAML would read the number 0012 as ten. `lines`
    gives the line of each field. `body` is the whole text with the frontmatter blanked, so that
    its line numbers hold.
    """

    body: str
    fields: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    has_frontmatter: bool = False

    def text(self, name: str) -> str:
        """The field as stripped text; empty when absent or not a scalar."""
        value = self.fields.get(name)
        return value.strip() if isinstance(value, str) else ""


def read_page(text: str) -> Page:
    """Take the frontmatter off. Raises nothing: what is malformed is in `findings`."""
    opening = _OPENING.match(text)
    if opening is None:
        return Page(body=text)
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        finding = Finding(1, "frontmatter.unclosed", "the frontmatter has no closing --- line")
        return Page(body=text[opening.end() - 1 :], findings=(finding,))
    block = text[opening.end() : closing.start()]
    body = "\n" * text.count("\n", 0, closing.end()) + text[closing.end() :]
    if len(block) > MAX_CHARACTERS:
        finding = Finding(
            1, "frontmatter.too-large", f"the frontmatter is longer than {MAX_CHARACTERS:,} characters"
        )
        return Page(body, findings=(finding,), has_frontmatter=True)
    try:
        fields, lines, findings = _parsed(block)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = mark.line + 2 if mark is not None else 1
        problem = one_line(str(getattr(fault, "problem", None) or fault), 150)
        finding = Finding(line, "frontmatter.malformed", f"the frontmatter is not valid YAML: {problem}")
        return Page(body, findings=(finding,), has_frontmatter=True)
    except RecursionError:
        finding = Finding(1, "frontmatter.malformed", "the frontmatter is nested too deeply")
        return Page(body, findings=(finding,), has_frontmatter=True)
    return Page(body, fields, lines, findings, has_frontmatter=True)


def _parsed(block: str) -> tuple[dict[str, Any], dict[str, int], tuple[Finding, ...]]:
    loader = yaml.BaseLoader(block)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}, ()
        if not isinstance(node, yaml.MappingNode):
            finding = Finding(2, "frontmatter.malformed", "the frontmatter must be `name: value` lines")
            return {}, {}, (finding,)
        values: dict[Hashable, Any] = loader.construct_document(node)
    finally:
        loader.dispose()
    lines: dict[str, int] = {}
    findings = []
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 2
        if name in lines:
            findings.append(
                Finding(
                    line, "frontmatter.duplicate", f"{one_line(name, 60)} is given twice; the last one counts"
                )
            )
        lines[name] = line
    return {str(name): value for name, value in values.items()}, lines, tuple(findings)
