"""Job: one unit of work, as a producer hands it to the core, and what makes it valid."""

from __future__ import annotations

import re
from dataclasses import dataclass

from joelclaw_tasks.core.rules import Rules
from joelclaw_tasks.errors import InvalidJob

_NAME = re.compile("[^\x00-\x1f\x7f]{1,1024}")
_NAMES = re.compile("[^\x00-\x1f\x7f]{1,1024}(?:\n[^\x00-\x1f\x7f]{1,1024}){4}")
#: What a gate that limits may be called.
LIMIT_GATE = re.compile("limit:[^\x00-\x1f\x7f]{1,1200}")
#: One of a job's gates: a limit and the places of it that the job takes, a rate, or a share with its weight.
_GATE_LINE = re.compile(
    "(?:limit:[^\x00-\x1f\x7f]{1,1200}(?:\t[1-9][0-9]{0,6})?|rate:[^\x00-\x1f\x7f]{1,1200}"
    "|share:[^\x00-\x1f\x7f]{1,1200}(?:\t[1-9][0-9]{0,3})?)"
)
_GATE_LINES = re.compile(f"{_GATE_LINE.pattern}(?:\n{_GATE_LINE.pattern})*")


def _invalid(name: str, wanted: str, value: object) -> InvalidJob:
    return InvalidJob(f"{name} of a job must be {wanted}, not {value!r:.80}")


@dataclass(slots=True)
class Job:
    r"""One unit of work, as a producer hands it over. `payload` is the message that a worker receives.

    `lane` names the jobs that pass the same `gates`, in order of rank: `limit:<name>` (with "\t<weight>" for
    a job that takes several places), `rate:<name>`, and first of all, where lanes take turns,
    `share:<whose turn>` (with "\t<jobs of a turn>"). `due_ms` is the epoch
    millisecond before which it must not start (0: at once; below 0: so many from now, by the clock of
    Redis); `keep_ms` is how long it is remembered as a duplicate after it finished (0: not at all).
    `lease_tag` is set when a running job hands over its own successor. `refusal`, when set, sends it to
    the dead letter with this reason. `rules` is what `Rules.encode` wrote, empty for almost every job.
    """

    id: str
    queue: str
    family: str
    handler: str
    lane: str
    payload: str | bytes
    gates: tuple[str, ...] = ()
    priority: int = 2
    slack_ms: int = 0
    due_ms: int = 0
    keep_ms: int = 0
    retries: int = 0
    lease_tag: str = ""
    actor: str = ""
    trace: str = ""
    refusal: str = ""
    rules: str = ""

    def __post_init__(self) -> None:
        """Raise InvalidJob for values that a script could not handle: it must never stop half way."""
        names = (self.id, self.queue, self.family, self.lane, self.handler or "none")
        numbers = (self.slack_ms, self.keep_ms, self.retries)
        payload: object = self.payload
        if not (
            set(map(type, names)) == {str}
            and _NAMES.fullmatch("\n".join(names))
            and set(map(type, (*numbers, self.priority, self.due_ms))) == {int}
            and min(numbers) >= 0
            and 0 <= self.priority <= 3
            and (not self.gates or self._are_gates())
            and not self.rules
            and type(payload) is str
            and "\0" not in payload
            and set(map(type, (self.lease_tag, self.actor, self.trace, self.refusal, self.rules))) == {str}
        ):
            self._check_each()

    def _are_gates(self) -> bool:
        """Whether all are lines of gates and none a share, of which only `_check_each` knows the place."""
        gates: object = self.gates
        return (
            type(gates) is tuple
            and set(map(type, gates)) == {str}
            and "share:" not in (lines := "\n".join(gates))
            and lines.count("\n") < len(gates)  # no name may bring a line of its own
            and _GATE_LINES.fullmatch(lines) is not None
        )

    def _check_each(self) -> None:
        """What __post_init__ checks at once, one by one: to name the fault."""
        for name in ("id", "queue", "family", "lane", "handler"):
            value = getattr(self, name)
            if value == "" and name == "handler":
                break  # a job may have none
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise _invalid(name, "1 to 1024 characters, none of them a control character", value)
        gates: object = self.gates
        if not isinstance(gates, tuple) or not all(
            isinstance(g, str) and _GATE_LINE.fullmatch(g) and (n == 0 or not g.startswith("share:"))
            for n, g in enumerate(gates)
        ):
            raise _invalid("gates", "a tuple of names such as limit:resource/nas, a share first", gates)
        if type(self.priority) is not int or not 0 <= self.priority <= 3:
            raise _invalid("priority", "0 to 3", self.priority)
        for name in ("slack_ms", "keep_ms", "retries", "due_ms"):
            value = getattr(self, name)
            if type(value) is not int or (value < 0 and name != "due_ms"):
                raise _invalid(name, "a whole number", value)
        payload: object = self.payload
        if not isinstance(payload, (str, bytes)):
            raise _invalid("payload", "text or bytes", payload)
        # Nothing that a worker can read has one. What is refused is never claimed.
        if (b"\0" in payload if isinstance(payload, bytes) else "\0" in payload) and not self.refusal:
            raise _invalid("payload", "without NUL bytes", payload)
        for name in ("lease_tag", "actor", "trace", "refusal", "rules"):
            if not isinstance(getattr(self, name), str):
                raise _invalid(name, "text", getattr(self, name))
        if self.rules != "":
            Rules.decode(self.rules)

    def args(self) -> tuple[str | bytes | int, ...]:
        """The 17 values of shared/spec.lua."""
        return (
            self.id, self.queue, self.family, self.handler, self.lane, "\n".join(self.gates), self.priority,
            self.slack_ms, self.due_ms, self.keep_ms, self.retries, self.lease_tag, self.actor, self.trace,
            self.refusal, self.rules, self.payload,
        )  # fmt: skip
