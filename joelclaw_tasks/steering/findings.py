"""Findings: what a reconcile answers, by kind."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

#: kind -> (what it is, what mends it, or else what a person may do)
KINDS: dict[str, tuple[str, str, str]] = {
    "waiting": ("events in a spool that are not sent yet", "sent", ""),
    "lost": ("events that were sent, and Redis does not know all of their jobs", "sent again", ""),
    "ran": ("jobs that would run, and a result says that they have ended", "cancelled", ""),
    "leads_on": (
        "jobs as in ran, that send others on, and those are not known",
        "",
        "They run again, and send those on. Cancel those that must not: `joelclaw queue cancel`.",
    ),
    "untold": ("events as in lost, that cannot be sent again", "", "Mend the reason that is given."),
    "gone": (
        "jobs that the stream admitted and never ended, and that have no record",
        "",
        "Emit their events, or call their tasks, again under the same ids.",
    ),
    "refused": (
        "events that a replay kept aside, with the reasons",
        "",
        "Mend the reasons, then `joelclaw emit --replay --again`.",
    ),
    "unreadable": ("lines and files of a spool that cannot be read", "", "Find out who wrote them."),
}
_SAMPLE = 10


@dataclass(slots=True)
class Finding:
    """What the spools, the results or the stream know and Redis does not: `count` of a `kind` of KINDS.

    `would` says what mends them, and `mended` how many were; where it is empty only a person can, by
    `advice`. `sample`: some of them.
    """

    kind: str
    what: str
    would: str
    advice: str
    count: int = 0
    mended: int = 0
    sample: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Reconciled:
    """What a reconcile found and, when `applied`, mended.

    `looked_at`: how many events, jobs, results and entries of the stream. `unchecked`: what cannot be told,
    and why. `control`: the act in the stream. `cancelled`: acts that `undo` takes back. `interrupted`: it
    stopped half way; what it says is what was done.
    """

    findings: list[Finding] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    applied: bool = False
    control: str | None = None
    cancelled: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def mendable(self) -> int:
        """How many of what was found can be mended."""
        return sum(finding.count for finding in self.findings if finding.would)

    def saw(self, what: str, count: int = 1) -> None:
        """Count what was looked at."""
        self.looked_at[what] = self.looked_at.get(what, 0) + count

    def note(self, kind: str, **about: Any) -> None:
        """One more of a kind."""
        finding = self.of(kind)
        finding.count += 1
        if len(finding.sample) < _SAMPLE:
            finding.sample.append(about)

    def of(self, kind: str) -> Finding:
        """The finding of a kind, in the order of KINDS."""
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        made = Finding(kind, *KINDS[kind])
        self.findings.append(made)
        self.findings.sort(key=lambda finding: list(KINDS).index(finding.kind))
        return made

    def to_wire(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return asdict(self)
