"""History: what happened, read from the transitions stream. Reads only; never changes a key.

The stream is read in pages of a few hundred entries, each one short script, so that a hundred
thousand of them neither block Redis nor fill memory. It is capped: `extent` says how far back it goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

#: Entries that Redis looks at in one go: about 3 ms of its time.
PAGE = 500
#: Stands for a job where acts are wanted: no job can have this id.
_NO_JOB = "\n"


class Entry:
    """One entry of the stream: a move of a job, or an act on a gate or on many jobs.

    `id` is the stream's own, `at` the epoch millisecond of the move. Times of a job are None where the
    entry has none; text that it does not have is empty. `fields` has every field, as text.
    """

    __slots__ = ("at", "fields", "id", "verb")

    def __init__(self, id: str, fields: Mapping[str, str]) -> None:
        self.id = id
        self.fields = fields
        self.verb = fields.get("verb", "")
        self.at = int(fields.get("at") or id.partition("-")[0])

    def __repr__(self) -> str:
        return f"Entry({self.id!r}, {dict(self.fields)!r})"

    def text(self, name: str) -> str:
        """A field, or an empty string."""
        return self.fields.get(name, "")

    def number(self, name: str) -> int | None:
        """A field that holds a number, rounded down; None when it is missing or holds something else."""
        try:
            return int(float(self.fields[name]))
        except (KeyError, ValueError, OverflowError):
            return None

    @property
    def job(self) -> str:
        """The job that moved; empty when the entry is an act."""
        return self.text("job")

    @property
    def family(self) -> str:
        """The family of the job."""
        return self.text("family")

    @property
    def from_state(self) -> str:
        """The state before; empty when the job is new or did not move."""
        return self.text("from")

    @property
    def to_state(self) -> str:
        """The state after; empty when the job did not move: a duplicate was turned away."""
        return self.text("to")

    @property
    def actor(self) -> str:
        """Who did it: an operator, `observer`, `expiry`; empty for the machinery."""
        return self.text("actor")

    @property
    def wait_ms(self) -> int | None:
        """From startable to claimed."""
        return self.number("wait_ms")

    @property
    def run_ms(self) -> int | None:
        """From claimed to its end."""
        return self.number("run_ms")


class Extent(NamedTuple):
    """How much the stream holds. `is_full`: it is at its cap, so entries older than `first_at` are gone.

    `first_at` and `last_at` are epoch milliseconds, None when the stream is empty.
    """

    length: int
    first_at: int | None
    last_at: int | None
    is_full: bool


class History:
    """Reads the transitions stream. `call` runs the script `history` with its arguments."""

    def __init__(self, call: Callable[[list[Any]], Any], transitions_max: int) -> None:
        self._call = call
        self._transitions_max = transitions_max

    def read(
        self,
        *,
        since_at: int = 0,
        until_at: int | None = None,
        job: str = "",
        verbs: Collection[str] = (),
        acts: bool = False,
        newest_first: bool = False,
        page: int = PAGE,
    ) -> Iterator[Entry]:
        """Entries of a span of time (epoch milliseconds, both ends included), page by page.

        `job` and `verbs` choose among them, inside Redis; so does `acts`, which leaves only entries that
        are about no single job: what was done to gates, or to many jobs at once. What is added after the
        first page was read is not part of it. Raises CoreUnreachable.
        """
        # A script adds its entries at `at` or, when the clock was moved back, under a later id.
        first, last = str(since_at), "+" if newest_first else self._last_id()
        job = _NO_JOB if acts else job
        while last:
            looked_at, entries, _ = self._page(first, last, newest_first, page, job, verbs)
            for entry in entries:
                if since_at <= entry.at and (until_at is None or entry.at <= until_at):
                    yield entry
            if not looked_at:
                return
            if newest_first:
                last = f"({looked_at}"
            else:
                first = f"({looked_at}"

    def tail(self, most: int = PAGE) -> list[Entry]:
        """The newest entries, the newest first: one short call however long the stream is."""
        return self._page("-", "+", True, most, "", ())[1]

    def extent(self) -> Extent:
        """How far back the stream goes."""
        _, oldest, length = self._page("-", "+", False, 1, "", ())
        _, newest, _ = self._page("-", "+", True, 1, "", ())
        ends = [entries[0].at if entries else None for entries in (oldest, newest)]
        return Extent(length, ends[0], ends[1], length >= self._transitions_max)

    def _last_id(self) -> str:
        return self._page("-", "+", True, 1, "", ())[0]

    def _page(
        self, first: str, last: str, newest_first: bool, count: int, job: str, verbs: Collection[str]
    ) -> tuple[str, list[Entry], int]:
        """The id that was looked at last (empty: nothing was left), what was found, the stream's length."""
        looked_at, found, length = self._call([first, last, int(newest_first), count, job, *verbs])
        # Lua writes an empty list as {}; text of strangers need not be UTF-8.
        entries = json.loads(found.decode(errors="replace")) or []
        return (
            looked_at.decode(),
            [Entry(id, dict(zip(pairs[::2], pairs[1::2], strict=True))) for id, pairs in entries],
            int(length),
        )
