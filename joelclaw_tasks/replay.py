"""replay: emit what waits in a spool, each event under the id that was fixed before it was first tried."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, Planned, Receipt, read_spooled
from joelclaw_tasks.errors import CoreUnreachable, EventRefused, JoelclawError
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Drained, Spool


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: `sent` events with the `decisions` for their jobs, and `refused` ones.

    `busy`: another process replays this spool, and this one did nothing. `kept`: the file with what was
    refused, now or before; None when there is nothing in it.
    """

    spool: str
    sent: int = 0
    refused: int = 0
    busy: bool = False
    decisions: dict[str, int] = field(default_factory=dict)
    kept: str | None = None


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
        return _replayed(waiting, Drained(), Counter())
    # Without a spool: what cannot be sent now is in one already.
    emitter = Emitter(settings, Registry.load(settings.registry_dir), Store.connect(settings))
    decisions: Counter[str] = Counter()
    oldest_ms = int(time() * 1000) - settings.keep_finished_ms

    def send(lines: Sequence[bytes]) -> dict[int, str]:
        planned: dict[int, Planned] = {}
        refused: dict[int, str] = {}
        for position, line in enumerate(lines):
            try:
                planned[position] = _plan(emitter, line, oldest_ms)
            except (ValueError, JoelclawError) as error:
                refused[position] = _reason(error)
        receipts, failed = _admit(emitter, planned)
        decisions.update(job.decision for receipt in receipts for job in receipt.jobs)
        return refused | failed

    return _replayed(waiting, waiting.drain(send), decisions)


def _plan(emitter: Emitter, line: bytes, oldest_ms: int) -> Planned:
    new, at_ms = read_spooled(line)
    if at_ms < oldest_ms and not _is_insisted(line):
        raise EventRefused("it is so old that it may have been done and forgotten")
    try:
        return emitter.plan([new], at_ms=at_ms)[0]
    except (TypeError, AttributeError, OverflowError) as error:  # a line that somebody wrote by hand
        raise ValueError(f"not an event: {type(error).__name__}") from None


def _admit(emitter: Emitter, planned: dict[int, Planned]) -> tuple[list[Receipt], dict[int, str]]:
    """All together; one by one when one of them spoils it for the others."""
    try:
        return emitter.admit(list(planned.values())), {}
    except CoreUnreachable:
        raise
    except JoelclawError:
        receipts: list[Receipt] = []
        failed: dict[int, str] = {}
        for position, event in planned.items():
            try:
                receipts += emitter.admit([event])
            except CoreUnreachable:
                raise
            except JoelclawError as error:
                failed[position] = _reason(error)
        return receipts, failed


def _replayed(spool: Spool, drained: Drained, decisions: Counter[str]) -> Replayed:
    kept = spool.refused_path
    has_kept = kept.exists() and kept.stat().st_size > 0
    return Replayed(
        spool=str(spool.path),
        sent=drained.sent,
        refused=drained.refused,
        busy=drained.busy,
        decisions=dict(decisions),
        kept=str(kept) if has_kept else None,
    )


def _reason(error: Exception) -> str:
    return f"{error.code}: {error}" if isinstance(error, JoelclawError) else str(error)


def _insist(line: bytes) -> bytes | None:
    try:
        event: dict[str, Any] = json.loads(line)
        return json.dumps(event | {"insisted": True}).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _is_insisted(line: bytes) -> bool:
    return json.loads(line).get("insisted") is True
