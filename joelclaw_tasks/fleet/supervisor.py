"""Keeps the processes of the fleet running, and stops them in order.

    stage 0 ──ready──► the rest, together ──all ready──► on_ready() ──SIGINT, SIGTERM──► highest stage first

A child that ends by itself is started again after a delay that doubles up to a cap; before it
was ready for the first time, its end is the end of the whole start, with its last words.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.child import Child, View, first
from joelclaw_tasks.fleet.leftovers import Recorded, record, start_mark
from joelclaw_tasks.fleet.process_spec import ProcessSpec


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for what, in seconds."""

    ready_s: float = 60.0
    grace_s: float = 15.0
    hurried_s: float = 2.0  # after a second signal, for what has no tasks to wait for
    last_signal_s: float = 10.0  # a cold shutdown of a pool takes about 3
    restart_base_s: float = 0.25
    restart_cap_s: float = 30.0
    healthy_s: float = 60.0  # ready for so long, a crash counts as the first again

    def restart_delay_s(self, crashes_in_a_row: int) -> float:
        """Delay before the next start after so many crashes (at least 1)."""
        return min(self.restart_cap_s, self.restart_base_s * 2.0 ** min(crashes_in_a_row - 1, 30))


class Supervisor:
    """Runs the given processes until it is told to stop.

    `on_change` is called after each start, readiness and end of a child. `record_file` always
    lists what runs, so that the next fleet can end it should this one be killed.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        logs_dir: Path,
        record_file: Path,
        env: Mapping[str, str],
        view: View,
        on_change: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        logs_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.children = [
            Child(spec, logs_dir=logs_dir, env=env, view=view, on_change=self._changed) for spec in specs
        ]
        self._record_file, self._view, self._on_change = record_file, view, on_change
        self._patience = patience or Patience()
        self._asked = asyncio.Event()  # to stop
        self._hurry = asyncio.Event()  # asked twice
        self._failure: str | None = None

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> bool:
        """Start all, call `on_ready`, run until SIGINT, SIGTERM or SIGHUP, stop all.

        True when every process stopped by itself, False when one had to be killed. Raises
        FleetError, after everything has been stopped, when one does not become ready.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Started with nohup, it is meant to outlive the terminal.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self.ask_to_stop)
        try:
            await self._start([child for child in self.children if child.spec.stage == 0])
            await self._start([child for child in self.children if child.spec.stage > 0])
            if not self._asked.is_set():
                on_ready()
            await self._asked.wait()
        finally:
            clean = await self._stop_all()
        if self._failure is not None:
            raise FleetError(self._failure, fix="The whole log is under logs/ in JOELCLAW_HOME.")
        return clean

    def ask_to_stop(self) -> None:
        """Stop all in order; asked a second time, do not wait for running tasks."""
        if self._asked.is_set():
            self._hurry.set()
        else:
            self._view.event("fleet", "stopping; a second signal does not wait for running tasks")
            self._asked.set()

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._asked.set()

    def _changed(self) -> None:
        running = [(child.spec, pid) for child in self.children if (pid := child.pid)]
        record(
            self._record_file,
            [
                Recorded(spec.name, pid, mark, spec.stage)
                for spec, pid in running
                if (mark := start_mark(pid)) is not None
            ],
        )
        self._on_change()

    async def _start(self, children: Sequence[Child]) -> None:
        if self._asked.is_set() or not children:
            return
        for child in children:
            child.keeper = asyncio.create_task(self._keep(child))
            child.keeper.add_done_callback(self._keeper_ended)
        all_ready = asyncio.gather(*(child.ready.wait() for child in children))
        await first(all_ready, self._asked.wait(), timeout_s=self._patience.ready_s)
        if not all_ready.done():
            all_ready.cancel()
            await asyncio.gather(all_ready, return_exceptions=True)
            late = ", ".join(child.spec.name for child in children if not child.ready.is_set())
            if not self._asked.is_set():
                self._fail(f"not ready within {self._patience.ready_s:g} s: {late}")

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and keeper.exception() is not None:
            self._fail(f"the supervisor itself failed: {keeper.exception()!r}")

    async def _keep(self, child: Child) -> None:
        """Run the child, again and again, until it is to stop."""
        was_ready = False
        while not child.stopping.is_set():
            code, healthy_s = await child.live()
            if child.stopping.is_set():
                return
            was_ready = was_ready or healthy_s is not None
            why = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            if not was_ready:
                words = "".join(f"\n  {line}" for line in child.log.tail)
                self._fail(f"{child.spec.name} ended with {why} before it was ready{words}")
                return
            recovered = healthy_s is not None and healthy_s >= self._patience.healthy_s
            child.crashes_in_a_row = 1 if recovered else child.crashes_in_a_row + 1
            delay_s = self._patience.restart_delay_s(child.crashes_in_a_row)
            self._view.event(child.spec.name, f"ended with {why}; starting again in {delay_s:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.stopping.wait(), delay_s)
            child.restarts += 1

    async def _stop_all(self) -> bool:
        clean = True
        for stage in sorted({child.spec.stage for child in self.children}, reverse=True):
            started = [child for child in self.children if child.spec.stage == stage and child.keeper]
            clean = all(await asyncio.gather(*(self._stop(child) for child in started))) and clean
        for child in self.children:
            child.log.close()
        self._record_file.unlink(missing_ok=True)
        return clean

    async def _stop(self, child: Child) -> bool:
        assert child.keeper is not None
        child.stopping.set()
        running = child.pid is not None
        # The foundation is not hurried: it stops in moments, and it holds everything.
        hurry = asyncio.Event() if child.spec.stage == 0 else self._hurry
        has_last_signal = child.spec.last_signal != signal.SIGKILL
        if not (hurry.is_set() and has_last_signal):  # a Celery worker that gets both at once may hang
            child.send(signal.SIGTERM)
            await first(child.keeper, hurry.wait(), timeout_s=self._patience.grace_s)
        if not child.keeper.done() and has_last_signal:
            child.send(child.spec.last_signal)
            await first(child.keeper, timeout_s=self._patience.last_signal_s)
        elif not child.keeper.done() and hurry.is_set():
            await first(child.keeper, timeout_s=self._patience.hurried_s)
        killed = not child.keeper.done()
        if killed:
            child.send(signal.SIGKILL, group=True)
        await asyncio.wait([child.keeper])
        if running:
            self._view.event(child.spec.name, "killed: it did not stop in time" if killed else "stopped")
        return not killed
