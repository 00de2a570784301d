"""Finding: one thing that is wrong with a piece of content."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What rule was broken, how badly, on which line (from 1), in words that say what to do."""

    line: int
    rule: str
    message: str
    severity: Severity = "error"

    def to_wire(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)
