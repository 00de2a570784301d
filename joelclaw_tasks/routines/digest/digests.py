"""Digests: closes windows, each once, and keeps their pages in a folder.

A page is written in one step and noted after it. Whoever is killed in between leaves a page without a record,
which the next attempt takes over as it is: no window is told twice, and no model is paid twice for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from joelclaw_tasks.core.digest_records import DigestRecord, DigestRecords
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Fallback
from joelclaw_tasks.intelligence.later import Ended, NotNow
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry_tiers import NANO_USD
from joelclaw_tasks.routines.digest.asking import BUDGET_MS, DigestAnswer, question_of
from joelclaw_tasks.routines.digest.facts import Facts, read_facts
from joelclaw_tasks.routines.digest.page import Sections, by_rules, render
from joelclaw_tasks.routines.digest.window import DAY_MS, Window, ended_windows
from joelclaw_tasks.whole_file import write_whole

Mode = Literal["rules", "model", "batch"]

#: What happened just before its end is in the stream by then.
CLOSES_AFTER_MS = 5_000
#: The answer of a batch is waited for so long after the end of its window, then rules write the page.
BATCH_WITHIN_MS = 2 * 3_600_000
LOOK_AGAIN_S = 60.0
#: After these it is worth while to ask again.
_PASSING = frozenset(
    {Reason.TIMEOUT, Reason.UNREACHABLE, Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.SERVER_ERROR,
     Reason.CIRCUIT_OPEN, Reason.NO_LEDGER, Reason.MALFORMED}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NotYet:
    """The answer of the batch is not there; look again after so long."""

    after_s: float


class Digests:
    """The digests of a queue. `folder`: where the pages are; `models` answers the client of this process."""

    def __init__(self, store: Store, folder: Path, models: Callable[[], ModelClient]) -> None:
        self._store = store
        self._models = models
        self.folder = folder
        self.records = DigestRecords(store)

    def due(self, length_ms: int) -> list[Window]:
        """Windows of the last day that have ended and are not closed, the oldest first.

        Raises CoreUnreachable.
        """
        now_ms = int(self._store.ask(self._store.now_ms))
        since_at = max(self.records.begin(now_ms // length_ms * length_ms), now_ms - DAY_MS)
        known = self.records.all()
        ended = ended_windows(now_ms - CLOSES_AFTER_MS, length_ms, since_at)
        return [window for window in ended if window.name not in known]

    def close(
        self, window: Window, mode: Mode, *, attempts: int = 1, looks: int = 0
    ) -> DigestRecord | NotYet:
        """Make the page of a window, unless it is there. Raises CoreUnreachable and OSError."""
        known = self.records.get(window.name)
        if known is not None:
            return known
        began = time.monotonic()
        about: dict[str, Any] = {"attempts": attempts, "looks": looks}
        left = self._left_behind(window)
        if left is not None:
            return self.records.keep(left)
        facts = read_facts(self._store, window, self.records.families())
        if facts.is_empty:
            return self.records.keep(self._record(window, facts, began, about, state="empty"))
        written = self._sections(window, facts, mode)
        if isinstance(written, NotYet):
            return written
        sections, more = written
        record = self._record(window, facts, began, about | more, path=str(self.path(window)))
        page = render(
            window, facts, sections, {**about, **more, "made_at": record.made_at, "took_ms": record.took_ms}
        )
        write_whole(self.path(window), page.encode(), 0o644)
        self.records.add_families({each["name"] for each in facts.families} | set(facts.first_seen))
        return self.records.keep(record)

    def path(self, window: Window) -> Path:
        """Where the page of a window is."""
        return self.folder / f"{window.name}.md"

    def _sections(self, window: Window, facts: Facts, mode: Mode) -> tuple[Sections, dict[str, Any]] | NotYet:
        if mode == "rules":
            return by_rules(facts), {"by": "rules"}
        outcome = self._asked_later(window, facts) if mode == "batch" else self._asked(facts)
        if isinstance(outcome, NotYet):
            return outcome
        if isinstance(outcome, str):
            return by_rules(facts), {"by": "rules", "fallback": outcome}
        cost = {"cost_usd": outcome.cost_nano_usd / NANO_USD, "tokens": sum(outcome.usage.to_wire().values())}
        return outcome.value.to_sections(), {"by": outcome.tier, **cost}

    def _asked(self, facts: Facts) -> Answer[DigestAnswer] | str:
        outcome = self._models().decide(question_of(facts), budget_ms=BUDGET_MS)
        return outcome.reason.value if isinstance(outcome, Fallback) else outcome

    def _asked_later(self, window: Window, facts: Facts) -> Answer[DigestAnswer] | str | NotYet:
        name, questions = f"digest-{window.name.replace('+', '-')}", {"page": question_of(facts)}
        models = self._models()
        found: Any = models.submit(name, questions)
        if not isinstance(found, NotNow):
            found = models.look(name, questions)
        if isinstance(found, Ended):
            outcome = found.outcomes["page"]
            return outcome.reason.value if isinstance(outcome, Fallback) else outcome
        is_late = int(self._store.ask(self._store.now_ms)) - window.end_at > BATCH_WITHIN_MS
        if isinstance(found, NotNow) and (is_late or found.reason not in _PASSING):
            return found.reason.value
        return "timeout" if is_late else NotYet(LOOK_AGAIN_S)

    def _record(
        self,
        window: Window,
        facts: Facts,
        began: float,
        about: dict[str, Any],
        state: str = "made",
        path: str | None = None,
    ) -> DigestRecord:
        return DigestRecord(
            window=window.name, start_at=window.start_at, end_at=window.end_at, state=state,
            made_at=int(self._store.ask(self._store.now_ms)), jobs=facts.jobs, path=path,
            took_ms=round((time.monotonic() - began) * 1_000, 1), **about,
        )  # fmt: skip

    def _left_behind(self, window: Window) -> DigestRecord | None:
        """The record of a page that was written, and whose writer died before it could note that."""
        try:
            head = yaml.safe_load(self.path(window).read_text("utf-8").split("---\n")[1])
            fields = (
                "by",
                "fallback",
                "attempts",
                "looks",
                "made_at",
                "took_ms",
                "cost_usd",
                "tokens",
                "jobs",
            )
            return DigestRecord(
                window=window.name, start_at=window.start_at, end_at=window.end_at, state="made",
                path=str(self.path(window)), **{name: head[name] for name in fields if name in head},
            )  # fmt: skip
        except (OSError, ValueError, IndexError, KeyError, TypeError, yaml.YAMLError):
            return None
