"""replay: emit what waits in a spool, each event under the id that was fixed before it was first tried.

What was sent is noted beside the spool, for a Redis that forgets what it took: see steering/reconcile.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, Planned
from joelclaw_tasks.errors import CoreUnreachable, EventRefused, JoelclawError
from joelclaw_tasks.new_event import read_spooled
from joelclaw_tasks.receipt import JobReceipt, Receipt
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.sent_log import Sent, SentLog
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Drained, Spool


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: `sent` events with the `decisions` for their jobs, and `refused` ones.

    `busy`: another process replays this spool, and this one did nothing. `kept`: the file with what was
    refused, now or before; None when there is nothing in it. `unnoted`: sent events that could not be noted,
    as the disk is full: `joelclaw queue reconcile` knows nothing of them.
    """

    spool: str
    sent: int = 0
    refused: int = 0
    busy: bool = False
    decisions: dict[str, int] = field(default_factory=dict)
    kept: str | None = None
    unnoted: int = 0


def replay(settings: Settings, *, spool: Path | None = None, again: bool = False) -> Replayed:
    """Emit what waits in the spool, oldest first. `again`: what was refused before as well, and old events.

    Refused is what emit refuses, what cannot be read, and what is older than `keep_finished_ms`: its first
    try may have arrived, and Redis has forgotten by now that it is done. Raises RegistryError, SpoolFailed
    and CoreUnreachable; what was not sent stays.
    """
    waiting = Spool(spool or settings.spool_file)
    if again:
        waiting.take_back(_insist)
    if not waiting.has_lines():
        return _replayed(waiting, Drained(), None)
    # Without a spool: what cannot be sent now is in one already.
    emitter = Emitter(settings, Registry.load(settings.registry_dir), Store.connect(settings))
    sender = Sender(emitter, SentLog(waiting.path, settings.keep_finished_ms))
    oldest_ms = now_ms() - settings.keep_finished_ms

    def send(lines: Sequence[bytes]) -> dict[int, str]:
        planned: dict[int, Planned] = {}
        refused: dict[int, str] = {}
        for position, line in enumerate(lines):
            try:
                planned[position] = plan_line(emitter, line, oldest_ms)
            except (ValueError, JoelclawError) as error:
                refused[position] = reason_of(error)
        return refused | sender.send(planned, lines)

    return _replayed(waiting, waiting.drain(send), sender)


class Sender:
    """Sends lines of a spool and notes them. `decisions`: jobs of each; `unnoted`: as in Replayed."""

    def __init__(self, emitter: Emitter, log: SentLog) -> None:
        self._emitter = emitter
        self._log = log
        self.decisions: Counter[str] = Counter()
        self.unnoted = 0

    def send(self, planned: Mapping[int, Planned], lines: Sequence[bytes]) -> dict[int, str]:
        """Admit what was planned from the lines, by position; answers why some of it never can be.

        Raises CoreUnreachable.
        """
        receipts, refused = self._admit(planned)
        for receipt in receipts.values():
            self.decisions.update(job.decision for job in receipt.jobs)
        sent_at = now_ms()
        # Noted before the spool forgets them: whoever is killed here sends them again, and notes them then.
        entries = [Sent(sent_at, _known_from_now(receipt), lines[at]) for at, receipt in receipts.items()]
        try:
            self._log.note(entries)
        except OSError:
            self.unnoted += len(entries)  # they are in Redis: a full disk must not keep the others here
        return refused

    def _admit(self, planned: Mapping[int, Planned]) -> tuple[dict[int, Receipt], dict[int, str]]:
        """All together; one by one when one of them spoils it for the others."""
        try:
            return dict(zip(planned, self._emitter.admit(list(planned.values())), strict=True)), {}
        except CoreUnreachable:
            raise
        except JoelclawError:
            receipts: dict[int, Receipt] = {}
            refused: dict[int, str] = {}
            for position, event in planned.items():
                try:
                    receipts[position] = self._emitter.admit([event])[0]
                except CoreUnreachable:
                    raise
                except JoelclawError as error:
                    refused[position] = reason_of(error)
            return receipts, refused


def now_ms() -> int:
    """The time of this machine in epoch milliseconds."""
    return int(time() * 1000)


def _known_from_now(receipt: Receipt) -> tuple[str, ...]:
    return tuple(job.job_id for job in receipt.jobs if _is_kept(job))


def _is_kept(job: JobReceipt) -> bool:
    """Whether Redis knows this id from now on. What was dropped for another job leaves none."""
    return job.duplicate_of == job.job_id if job.decision == "duplicate" else job.decision in _KEPT


_KEPT = {"admitted", "scheduled", "debounced", "batched"}


def plan_line(emitter: Emitter, line: bytes, oldest_ms: int) -> Planned:
    """The event of a line and its jobs, as of the time of its emit.

    Raises ValueError, and what `Emitter.plan` raises; EventRefused also for one from before `oldest_ms`
    (epoch), unless somebody insists on it.
    """
    new, at_ms = read_spooled(line)
    if at_ms < oldest_ms and not _is_insisted(line):
        raise EventRefused("it is so old that it may have been done and forgotten")
    try:
        return emitter.plan([new], at_ms=at_ms)[0]
    except (TypeError, AttributeError, OverflowError) as error:  # a line that somebody wrote by hand
        raise ValueError(f"not an event: {type(error).__name__}") from None


def _replayed(spool: Spool, drained: Drained, sender: Sender | None) -> Replayed:
    kept = spool.refused_path
    has_kept = kept.exists() and kept.stat().st_size > 0
    return Replayed(
        spool=str(spool.path),
        sent=drained.sent,
        refused=drained.refused,
        busy=drained.busy,
        decisions=dict(sender.decisions) if sender else {},
        kept=str(kept) if has_kept else None,
        unnoted=sender.unnoted if sender else 0,
    )


def reason_of(error: Exception) -> str:
    """Why a line is refused, for people."""
    return f"{error.code}: {error}" if isinstance(error, JoelclawError) else str(error)


def _insist(line: bytes) -> bytes | None:
    try:
        event: dict[str, Any] = json.loads(line)
        return json.dumps(event | {"insisted": True}).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _is_insisted(line: bytes) -> bool:
    return json.loads(line).get("insisted") is True
