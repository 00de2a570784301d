"""Score: what a model, or what stands in for one, says of a job; and how it is asked for and given."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from joelclaw_tasks.core.caller import Caller
from joelclaw_tasks.core.reply import read_words
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidJob

#: A record in the transitions stream is read by people.
_NOTE_MOST_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class Score:
    """The slack and the priority that a job gets (None: those that it has), and `note`: why, for people.

    `note` goes into the transitions stream and to the job, as it is: JSON of at most 4,000 bytes.
    """

    job_id: str
    note: dict[str, Any]
    slack_ms: int | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        if (self.slack_ms is None) != (self.priority is None):
            raise InvalidJob("a score gives both slack_ms and priority, or neither")
        for name, value, most in (("slack_ms", self.slack_ms, 10**12), ("priority", self.priority, 3)):
            if value is not None and (type(value) is not int or not 0 <= value <= most):
                raise InvalidJob(f"{name} of a score must be a whole number up to {most}, not {value!r:.80}")
        if len(self._encoded()) > _NOTE_MOST_BYTES:
            raise InvalidJob(f"the note of a score may have {_NOTE_MOST_BYTES} bytes")

    def _encoded(self) -> bytes:
        return json.dumps(self.note, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")

    def args(self) -> tuple[str | int | bytes, ...]:
        """The values of score.lua."""
        slack_ms = "" if self.slack_ms is None else self.slack_ms
        return (self.job_id, slack_ms, "" if self.priority is None else self.priority, self._encoded())


class Scoring(Caller, ABC):
    """The verbs of triage of the store."""

    @abstractmethod
    def _head(self) -> list[Any]: ...

    def take_unscored(self, most: int) -> list[dict[str, Any]]:
        """Up to `most` jobs that want a score, the oldest first; nobody else gets them from now on.

        Each as `{id, state, family, handler, priority, slack_ms, admitted_at, payload}`; what is over is left
        out.
        """
        return list(self._ask(lambda: self._take_unscored(most)))

    def _take_unscored(self, most: int) -> list[dict[str, Any]]:
        client: Any = self.client
        names = ("state", "family", "handler", "priority", "slack_ms", "admitted_at", "payload")
        ids = [job_id.decode() for job_id, _ in client.zpopmin(self.keys.triage, most)]
        pipe = client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self.keys.job(job_id), names)
        numbers = {"priority", "slack_ms", "admitted_at"}
        return [
            {"id": job_id} | {
                name: int(value) if name in numbers else value.decode()
                for name, value in zip(names, values, strict=True)
            }
            for job_id, values in zip(ids, pipe.execute(), strict=True)
            if None not in values
        ]  # fmt: skip

    def score(self, scores: Sequence[Score], *, actor: str) -> list[Word]:
        """Held -> available, with what each score stands for.

        SCORED; NOTED (it is not held any more, or runs in any case); MISSING; or HELD_BY_PERSON, available
        with the priority that somebody has set meanwhile.
        """
        args = [part for score in scores for part in score.args()]
        return read_words(self._call("score", [*self._head(), actor, *args])) if args else []
