"""The page of a digest: six sections in a fixed order, by fixed rules or by a model, as Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from joelclaw_tasks.routines.digest.facts import Facts
from joelclaw_tasks.routines.digest.window import Window

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~])")


@dataclass(frozen=True, slots=True)
class Sections:
    """What a digest says, as plain text."""

    summary: str
    key_events: list[str] = field(default_factory=list)
    learnings: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    open_questions: list[str] = field(default_factory=list)
    tomorrow: list[str] = field(default_factory=list)


def by_rules(facts: Facts) -> Sections:
    """The sections without a model: counts, firsts, failures, waits, acts and what is still open."""
    summary = (
        f"{_some(facts.jobs, 'job')} came: {facts.completed:,} done, {facts.failed:,} failed for good, "
        f"{_some(facts.retried, 'run')} tried again."
    )
    if facts.wait_p95_ms is not None:
        summary += f" 95 of 100 started within {_time(facts.wait_p95_ms)}."
    summary += f" {_busiest(facts)}"
    events = [f"{each['family']}: failed {_times(each['count'])}: {each['error']}" for each in facts.failures]
    events += [f"{name}: came for the first time" for name in facts.first_seen]
    events += [
        f"{each['family']}: a job waited {_time(each['wait_ms'])} ({each['job']})"
        for each in facts.longest_waits
    ]
    new = [each for each in facts.failures if each["is_new"]]
    old = [each for each in facts.failures if not each["is_new"]]
    learnings = [f"New: {each['family']} fails with {each['error']}" for each in new]
    learnings += [f"Known: {each['family']} goes on failing with {each['error']}" for each in old]
    learnings += [
        f"{each['name']}: {each['success_rate']:.0%} of its jobs were done"
        for each in facts.families
        if each["success_rate"] is not None and each["success_rate"] < 1
    ]
    return Sections(
        summary=summary.strip(),
        key_events=events[:7],
        learnings=learnings[:7],
        connections=[_act(act) for act in facts.acts],
        open_questions=[
            f"Why does {each['family']} fail with {each['error']}? joelclaw diagnose {each['signature']}"
            for each in facts.failures
            if each["signature"]
        ],
        tomorrow=[
            f"{each['gate']} is paused{': ' + each['reason'] if each['reason'] else ''}"
            for each in facts.open
        ],
    )


def render(window: Window, facts: Facts, sections: Sections, about: dict[str, Any]) -> str:
    """The Markdown of a digest, with `about` and the counts as its frontmatter."""
    head = {
        "type": "digest",
        "window": window.name,
        "from": _iso(window.start_at),
        "until": _iso(window.end_at),
        "source": "transitions",
        "jobs": facts.jobs,
        "completed": facts.completed,
        "failed": facts.failed,
        "retried": facts.retried,
        **about,
    }
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=False).rstrip(), "---", ""]
    lines += [f"# Digest {window.name}", ""]
    if facts.complete_from is not None:
        lines += [
            f"> What was before {_iso(facts.complete_from)} has left the stream and is not counted here.",
            "",
        ]
    lines += ["## Summary", "", _escaped(sections.summary), ""]
    lines += _listed("Key Events", sections.key_events, numbered=True)
    lines += _families(facts)
    lines += _listed("Learnings", sections.learnings)
    lines += _listed("Connections", sections.connections)
    lines += _listed("Open Questions", sections.open_questions)
    lines += _listed("Tomorrow", sections.tomorrow)
    if facts.payloads:
        lines += ["## Payloads of what failed", ""]
        for each in facts.payloads:
            lines += [
                f"- {_escaped(each['family'])}, job {_escaped(each['job'])}:",
                "",
                f"      {each['payload']}",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _families(facts: Facts) -> list[str]:
    if not facts.families:
        return []
    lines = ["| family | started | done | failed | wait p95 | run p95 |", "|---|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {_escaped(each['name'])} | {each['count']:,} | {each['completed']:,} | {each['failed']:,} "
        f"| {_time(each['wait_p95_ms'])} | {_time(each['run_p95_ms'])} |"
        for each in facts.families
    ]
    if facts.more_families:
        lines.append(f"| and {facts.more_families:,} more | | | | | |")
    return [*lines, ""]


def _listed(title: str, items: list[str], *, numbered: bool = False) -> list[str]:
    marks = (f"{number}." for number in range(1, 100)) if numbered else iter(lambda: "-", None)
    said = [f"{mark} {_escaped(item)}" for mark, item in zip(marks, items, strict=False)] or ["Nothing."]
    return [f"## {title}", "", *said, ""]


def _busiest(facts: Facts) -> str:
    names = [f"{each['name']} ({each['count']:,})" for each in facts.families[:3]]
    return f"Most work came from {', '.join(names)}." if names else ""


def _act(act: dict[str, Any]) -> str:
    why = f": {act['reason']}" if act["reason"] else ""
    return f"{act['actor']} at {_iso(act['at'])[11:16]}: {act['verb']} {act['target']}{why}"


def _escaped(text: str) -> str:
    """Text as it is, in Markdown: nobody's payload makes a link, a heading or a table of it."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _some(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _time(ms: float | None) -> str:
    if ms is None:
        return "-"
    if ms < 1_000:
        return f"{ms:.0f} ms"
    return f"{ms / 1_000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.0f} min"


def _iso(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
