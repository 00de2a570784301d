"""Rules: what few jobs ask of their admission, beside lane, gates and rank. shared/rules.lua obeys them.

They travel as one text, empty for a job without rules, which therefore pays nothing for them. The order
in which they apply is docs/controls.md.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from joelclaw_tasks.errors import InvalidJob

_NAME = re.compile("[^\x00-\x1f\x7f]{1,1200}")
_YEAR_MS = 366 * 86_400_000
#: The most elements of one batch, and the most topics of one job.
BATCH_MOST, TOPICS_MOST = 10_000, 1_000


def _check_name(what: str, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidJob(f"{what} must be 1 to 1200 characters, none a control character, not {value!r:.80}")


def _check_number(what: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InvalidJob(f"{what} must be a whole number from {least} to {most}, not {value!r:.80}")


@dataclass(frozen=True, slots=True)
class Window:
    """Of calls with the same key, the first within `window_ms` goes on."""

    key: str
    window_ms: int

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        _check_name("the key of a window", self.key)
        _check_number("window_ms", self.window_ms, 1, _YEAR_MS)


@dataclass(frozen=True, slots=True)
class Singleton:
    """One job with this key at a time: a later call is skipped or, with `cancel`, ends the earlier one."""

    key: str
    cancel: bool = False

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        _check_name("the key of a singleton", self.key)
        if not isinstance(self.cancel, bool):
            raise InvalidJob(f"cancel of a singleton must be true or false, not {self.cancel!r:.80}")


@dataclass(frozen=True, slots=True)
class Debounce:
    """Runs `wait_ms` after the last call of this key with its data, at most `max_wait_ms` after the first."""

    key: str
    wait_ms: int
    max_wait_ms: int

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        _check_name("the key of a debounce", self.key)
        _check_number("wait_ms", self.wait_ms, 1, _YEAR_MS)
        _check_number("max_wait_ms", self.max_wait_ms, self.wait_ms, _YEAR_MS)


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls with this key run as one job, once there are `size` or the first has waited `max_wait_ms`."""

    key: str
    size: int
    max_wait_ms: int

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        _check_name("the key of a batch", self.key)
        _check_number("size of a batch", self.size, 1, BATCH_MOST)
        _check_number("max_wait_ms", self.max_wait_ms, 1, _YEAR_MS)


@dataclass(frozen=True, slots=True)
class Triage:
    """A score is wanted. Until it comes the job is held, for `hold_ms` at most; with 0 it runs meanwhile."""

    hold_ms: int

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        _check_number("hold_ms", self.hold_ms, 0, 60_000)


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one job. Keys are complete: they name the handler, too.

    `topics` are what cancels this job while it waits or runs, `cancels` the topics that its arrival stands
    for. It never starts after `expires_at` (epoch milliseconds, 0: no end). `split_from` names the batch of
    which this was an element that failed; with `error` it goes to the dead letter at once.
    """

    dedup: Window | None = None
    throttle: Window | None = None
    singleton: Singleton | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    triage: Triage | None = None
    topics: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    expires_at: int = 0
    split_from: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        """Raise InvalidJob."""
        if self.batch and (self.singleton or self.debounce):
            raise InvalidJob("a batch cannot be a singleton or debounced as well")
        if self.triage and (self.batch or self.debounce):
            raise InvalidJob("calls that are gathered have no score of their own: no triage")
        for topic in (*self.topics, *self.cancels):
            _check_name("a topic", topic)
        if max(len(self.topics), len(self.cancels)) > TOPICS_MOST:
            raise InvalidJob(f"a job can have at most {TOPICS_MOST} topics")
        _check_number("expires_at", self.expires_at, 0, 10**14 - 1)  # Lua writes more digits as 1e+14
        if self.split_from:
            _check_name("split_from", self.split_from)
        for text in (self.split_from, self.error):
            if type(text) is not str:
                raise InvalidJob(f"split_from and error must be text, not {text!r:.80}")

    def encode(self) -> str:
        """The text that travels with a job; empty when there is no rule."""
        return _encode({name: value for name, value in asdict(self).items() if value})

    @classmethod
    def decode(cls, text: str) -> Rules:
        """Read what `encode` wrote. Raises InvalidJob for anything else."""
        try:
            document = json.loads(text)
            values = {name: _read(name, value) for name, value in document.items()}
            return cls(**values)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, InvalidJob):
                raise
            raise InvalidJob(f"rules of a job must be what Rules.encode writes, not {text!r:.80}") from None


_PARTS: dict[str, type[Any]] = {
    "dedup": Window,
    "throttle": Window,
    "singleton": Singleton,
    "debounce": Debounce,
    "batch": Batch,
    "triage": Triage,
}
_NAMES = frozenset(field.name for field in fields(Rules))


def _encode(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":")) if document else ""


def _read(name: str, value: Any) -> Any:
    if name in _PARTS:
        return _PARTS[name](**value)
    return tuple(value) if name in ("topics", "cancels") else value
