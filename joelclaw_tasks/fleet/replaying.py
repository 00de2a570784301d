"""Replaying: while the fleet runs, what waits in its spool is emitted: at once, then every minute."""

from __future__ import annotations

import asyncio
import contextlib

from joelclaw_tasks.errors import JoelclawError
from joelclaw_tasks.fleet.child import View
from joelclaw_tasks.replay import now_ms, replay
from joelclaw_tasks.sent_log import SentLog
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Spool

REPLAY_EVERY_S = 60.0


async def keep_replaying(settings: Settings, view: View, *, every_s: float = REPLAY_EVERY_S) -> None:
    """Until it is cancelled. What goes wrong is told, and tried again the next time."""
    while True:
        if Spool(settings.spool_file).has_lines():
            try:
                done = await asyncio.to_thread(replay, settings)
            except JoelclawError as error:
                view.event("spool", f"WARNING: its events wait on: {error}")
            else:
                refused = f", {done.refused} refused: see {done.kept}" if done.refused else ""
                unnoted = f", {done.unnoted} not noted: the disk is full" if done.unnoted else ""
                view.event("spool", f"{done.sent} events emitted{refused}{unnoted}")
        with contextlib.suppress(OSError):
            SentLog(settings.spool_file, settings.keep_finished_ms).forget(now_ms())
        await asyncio.sleep(every_s)
