"""Violation: one thing in Redis that contradicts the design, and the commands that mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: One Redis command: its name and its arguments.
RedisCommand = tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong. `mend` are Redis commands; where they would be a guess, `advice` says what to do.

    `invariant` is I1 to I8 of the design, `code` names the kind, `subject` the job, lane, gate or key.
    """

    invariant: str
    code: str
    subject: str
    detail: str
    mend: tuple[RedisCommand, ...] = ()
    advice: str = ""

    def to_wire(self) -> dict[str, Any]:
        """As plain values; the commands as redis-cli takes them."""
        return {
            "invariant": self.invariant,
            "code": self.code,
            "subject": self.subject,
            "detail": self.detail,
            "mend": [" ".join(map(quoted, command)) for command in self.mend],
            "advice": self.advice or None,
        }


def quoted(part: str | float) -> str:
    """One argument as redis-cli reads it."""
    text = str(part)
    if text and all(each.isalnum() or each in "_-:{}./=@+" for each in text):
        return text
    escaped = "".join(_ESCAPES.get(each) or each for each in text)
    return f'"{escaped}"'


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
