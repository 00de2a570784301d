"""What the verbs of `Queue` answer, each with `to_wire` for JSON. Times are epoch milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Control:
    """One act of steering. `until_at`: when it ends by itself (None: when it is undone).

    `value` is what it put in force: a limit or a rate. `where` are the jobs that were chosen, for `shed`;
    `previous` is the control that it took the place of, or ended.
    """

    id: str
    verb: str
    target: str
    actor: str
    reason: str
    at: int
    until_at: int | None = None
    value: str | int | None = None
    base: str | None = None
    where: str | None = None
    undone_at: int | None = None
    undone_by: str | None = None
    previous: Control | None = None

    @classmethod
    def of(cls, act: Mapping[str, Any]) -> Control:
        """From a record of the core (see core/controls.py)."""
        return cls(
            id=act["id"],
            verb=act["verb"],
            target=act["target"],
            actor=act["actor"],
            reason=act["reason"],
            at=int(act["at"]),
            until_at=int(act["until"]) if act.get("until") else None,
            value=None if act["verb"] == "pause" else act.get("value"),
            base=act.get("base") or None,
            where=act.get("where"),
            undone_at=int(act["undone_at"]) if act.get("undone_at") else None,
            undone_by=act.get("undone_by"),
            previous=cls.of(act["previous"]) if act.get("previous") else None,
        )

    def to_wire(self) -> dict[str, Any]:
        """The control as JSON-able values."""
        return asdict(self)


@dataclass(slots=True)
class Acted:
    """What became of a verb on jobs.

    `control` is its id for undo (None: nothing to undo). `matched` jobs were chosen, `changed` changed, and
    `skipped` says why the others did not (a word of core/states.py -> jobs). A dry run changes nothing
    and shows some of them in `sample`. `interrupted`: it stopped half way; what it says is what was done.
    """

    verb: str
    target: str
    control: str | None = None
    matched: int = 0
    changed: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)
    dry_run: bool = False
    interrupted: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Drained:
    """How far a drain has come: jobs from before its start that still wait, and that run.

    `exact` is False when there were too many to count one by one; then `waiting` is no less than there are.
    `done`: none waits any more, and the drain has ended. `interrupted`: it goes on by itself.
    """

    control: str
    gate: str
    waiting: int
    running: int
    exact: bool = True
    done: bool = False
    interrupted: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Undone:
    """An act that was taken back, and how many jobs went back with it. `left`: jobs not looked at yet."""

    control: Control
    jobs: int = 0
    left: int = 0

    def to_wire(self) -> dict[str, Any]:
        """The result as JSON-able values."""
        return asdict(self)


def as_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job for a sample: what can be shown, without its message."""
    return {name: value for name, value in job.items() if name != "payload" and value is not None}
