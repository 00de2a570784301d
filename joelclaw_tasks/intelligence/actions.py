"""Actions: what an operator may propose. The list is closed; policy decides what becomes of each.

An action is about a family. It is bounded in time where it holds something back, and never drops work.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

#: No control of the observer lasts shorter or longer (ms).
SHORTEST_MS, LONGEST_MS = 60_000, 86_400_000
REASON_MOST, MESSAGE_MOST = 280, 500


def _cut(most: int) -> BeforeValidator:
    """Text that is too long is cut, not refused; control characters become blanks."""

    def cut(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        return "".join(char if char.isprintable() else " " for char in text)[:most].strip()

    return BeforeValidator(cut)


Family = Annotated[str, Field(min_length=1, max_length=160)]
Reason = Annotated[str, Field(min_length=1, max_length=REASON_MOST), _cut(REASON_MOST)]
#: Out of bounds is clamped by the policy, which says so; the sign is not.
TtlMs = Annotated[int, Field(gt=0)]
Level = Annotated[int, Field(ge=0, le=3)]


class _Action(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Noop(_Action):
    """Leave everything as it is."""

    kind: Literal["noop"] = "noop"
    reason: Reason


class Pause(_Action):
    """Start nothing more of a family, for a while. What runs goes on."""

    kind: Literal["pause"] = "pause"
    family: Family
    reason: Reason
    ttl_ms: TtlMs


class Resume(_Action):
    """Let a paused family go; with `probe` only its first job, to see how it goes (half-open)."""

    kind: Literal["resume"] = "resume"
    family: Family
    reason: Reason
    probe: bool = False


class Reprioritize(_Action):
    """Give what waits of a family, and what comes within the time, another priority (0 to 3)."""

    kind: Literal["reprioritize"] = "reprioritize"
    family: Family
    priority: Level
    reason: Reason
    ttl_ms: TtlMs


class Throttle(_Action):
    """A lower limit (jobs at once), or a lower rate (jobs in `period_ms`), for a gate of a family."""

    kind: Literal["throttle"] = "throttle"
    family: Family
    gate: Annotated[str, Field(pattern=r"^(limit|rate):[^\x00-\x1f\x7f]{1,1200}$")]
    most: Annotated[int, Field(ge=1, le=1_000_000)]
    period_ms: Annotated[int, Field(ge=1, le=LONGEST_MS)] | None = None  # of a rate
    reason: Reason
    ttl_ms: TtlMs


class Batch(_Action):
    """Let jobs of a family gather and then go in one go: when so many wait, or the time is over."""

    kind: Literal["batch"] = "batch"
    family: Family
    size: Annotated[int, Field(ge=2, le=100_000)] | None = None
    reason: Reason
    ttl_ms: TtlMs


class Shed(_Action):
    """Move what waits of a family to the parking lot, from which it comes back when the time is over."""

    kind: Literal["shed"] = "shed"
    family: Family
    reason: Reason
    ttl_ms: TtlMs


class Escalate(_Action):
    """Tell a person. `family` is what it is about; None: the queue as a whole."""

    kind: Literal["escalate"] = "escalate"
    family: Family | None = None
    severity: Literal["info", "warn", "error"] = "warn"
    message: Annotated[str, Field(min_length=1, max_length=MESSAGE_MOST), _cut(MESSAGE_MOST)]


Action = Annotated[
    Noop | Pause | Resume | Reprioritize | Throttle | Batch | Shed | Escalate, Field(discriminator="kind")
]
#: Those that hold a whole family back.
Hold = Pause | Batch
#: Those that change something in the queue.
Doing = Pause | Resume | Reprioritize | Throttle | Batch | Shed

ACTION: TypeAdapter[Action] = TypeAdapter(Action)
#: The closed list of their kinds.
KINDS: list[str] = [each.model_fields["kind"].default for each in get_args(get_args(Action)[0])]


def family_of(action: Action) -> str | None:
    """The family that an action is about; None when it is about none."""
    return None if isinstance(action, Noop) else action.family
