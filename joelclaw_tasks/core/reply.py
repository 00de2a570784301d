"""Reply: what the scripts answer, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import ScriptDrift

_WORDS = {word.encode(): word for word in Word}


class Decision(NamedTuple):
    """What was decided for one job of an `admit`. `of` is the other job that the decision names, if any."""

    word: Word
    of: str | None = None


class Claimed(NamedTuple):
    """A job under a lease. `tag` is its delivery tag: every later verb must name it."""

    tag: str
    queue: str
    payload: bytes
    kills: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim. The next timer is due in `next_due_ms` milliseconds (None: there is none)."""

    jobs: list[Claimed]
    more: bool = False
    inbox: bool = False
    next_due_ms: int | None = None


def read_word(reply: bytes) -> Word:
    """One word of a script. Raises ScriptDrift for one that no script may answer."""
    try:
        return _WORDS[reply]
    except KeyError:
        raise ScriptDrift(f"a script answered {reply!r}") from None


def read_words(reply: list[bytes]) -> list[Word]:
    """One word for each job."""
    return [read_word(word) for word in reply]


def read_decisions(reply: list[bytes]) -> list[Word | Decision]:
    """What was decided for each job of an `admit`: a word, or a Decision that names another job."""
    return [_WORDS.get(word) or _read_decision(word) for word in reply]


def _read_decision(reply: bytes) -> Decision:
    word, newline, of = reply.partition(b"\n")
    if not newline:
        raise ScriptDrift(f"a script answered {reply!r}")
    return Decision(read_word(word), of.decode())


def read_claim(parts: list[Any]) -> Claim:
    """The answer to a claim, as claim.lua writes it."""
    more, inbox, next_due, *jobs = parts
    return Claim(
        [
            Claimed(jobs[i].decode(), jobs[i + 1].decode(), jobs[i + 2], int(jobs[i + 3]))
            for i in range(0, len(jobs), 4)
        ],
        more=more != 0,
        inbox=inbox != 0,
        next_due_ms=int(next_due) if next_due != b"" else None,
    )
