"""Finding: what one look of a check found. It travels as JSON from the process that looked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["healthy", "degraded", "down", "unknown"]
STATUSES = ("healthy", "degraded", "down", "unknown")


@dataclass(frozen=True, slots=True)
class Finding:
    """In plain words, and no secret. `detail` goes on from the name of the check: "answers 503".

    `latency_ms` is None when nothing answered. `is_broken`: the check itself died, so of what it was to look
    at nothing is known.
    """

    status: Status
    detail: str
    latency_ms: float | None = None
    is_broken: bool = False

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def broken(cls, what: str) -> Finding:
        """The check died of `what`."""
        return cls("unknown", f"cannot be checked: {what}", is_broken=True)


class NoAnswer(Exception):
    """What was to be looked at does not answer; it carries the finding of that."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding
