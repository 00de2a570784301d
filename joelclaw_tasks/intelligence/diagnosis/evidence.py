"""Evidence: what is known of a failure, as a bounded list of exhibits without secrets.

Times are epoch milliseconds (`*_at`). An exhibit has an id such as E1, by which a diagnosis cites it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from joelclaw_tasks.intelligence.guard import compact

#: What a model is shown of all exhibits together, in bytes of JSON: about 12,000 tokens.
MOST_BYTES = 40_000
#: Of one exhibit: a traceback needs some room.
MOST_EXHIBIT_BYTES = 5_000
MOST_EXHIBITS = 60


class Kind(StrEnum):
    """What an exhibit is about."""

    FAILURES = "failures"  # runs that failed alike: how many, since when, with which error
    ERROR_RATE = "error_rate"  # how many runs failed before the onset, and since
    LATENCY = "latency"  # how long runs that went well took before, and since
    TRACEBACK = "traceback"
    PAYLOAD_SHAPE = "payload_shape"  # names and types of what failed, never its values
    DEPLOY = "deploy"  # a commit, or an event that says that something was deployed
    CONTROL = "control"  # what a person, the observer or the registry did to the queue
    REGISTRY = "registry"  # the entry of the family as it is now
    HEALTH = "health"  # what the health pulse finds now
    HEALTH_HISTORY = "health_history"  # when a check was not healthy
    RESTATE = "restate"  # an invocation that fails there
    PAST_DIAGNOSIS = "past_diagnosis"
    ATTEMPT = "attempt"  # one run that failed


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Subject(_Part):
    """What is diagnosed. `name` is what was asked for; what is not known of it is empty."""

    kind: Literal["family", "handler", "signature", "job"]
    name: str
    family: str = ""
    handler: str = ""
    signature: str = ""


class Exhibit(_Part):
    """One piece of evidence. `source` says where it was read; `at` is when it happened, or None."""

    id: str
    kind: Kind
    at: int | None = None
    source: str
    text: str

    def line(self) -> str:
        """As one line of JSON for a prompt, without secrets and cut to a size."""
        shown = {"id": self.id, "kind": self.kind.value, "at": iso(self.at), "source": self.source}
        return compact({**shown, "text": self.text}, most_bytes=MOST_EXHIBIT_BYTES)


class Evidence(_Part):
    """What is known of one subject, from `since_at` up to `taken_at`.

    `onset_at` is when runs began to fail more often, by their figures alone. `signatures` name the failures,
    what the subject is about first, then the most frequent. `likeness` is how the first was called as long as
    none of its jobs was dead. `omitted` exhibits did not fit.
    """

    subject: Subject
    taken_at: int
    since_at: int
    onset_at: int | None = None
    failed: int = 0
    completed: int = 0
    signatures: tuple[str, ...] = ()
    likeness: str = ""
    exhibits: tuple[Exhibit, ...] = ()
    omitted: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of all exhibits."""
        return [each.id for each in self.exhibits]

    def of(self, *kinds: Kind) -> list[Exhibit]:
        """The exhibits of these kinds."""
        return [each for each in self.exhibits if each.kind in kinds]

    def block(self) -> str:
        """The exhibits as a block of data for a prompt."""
        lines = ",\n".join(each.line() for each in self.exhibits)
        return f"<evidence>[\n{lines}\n]</evidence>"


def bounded(
    found: Iterable[Exhibit], most_bytes: int = MOST_BYTES, most: int = MOST_EXHIBITS
) -> tuple[tuple[Exhibit, ...], int]:
    """Those that fit, numbered anew in their order, and how many did not. The first ones matter most."""
    kept: list[Exhibit] = []
    size = omitted = 0
    for exhibit in found:
        numbered = exhibit.model_copy(update={"id": f"E{len(kept) + 1}"})
        bytes_of_it = len(numbered.line()) + 2
        if len(kept) == most or size + bytes_of_it > most_bytes:
            omitted += 1
            continue
        size += bytes_of_it
        kept.append(numbered)
    return tuple(kept), omitted


def iso(at: int | None) -> str | None:
    """A moment as models and people read it, in UTC; None for none, or for one that no calendar has."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def at_of(text: str) -> int:
    """The epoch millisecond of a time in ISO 8601; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def as_json(value: object) -> str:
    """Small values as text for an exhibit."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
