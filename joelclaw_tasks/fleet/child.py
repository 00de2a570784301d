"""One running process of the fleet: started, its log read, signalled, seen to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from joelclaw_tasks.fleet.process_log import ProcessLog
from joelclaw_tasks.fleet.process_spec import ProcessSpec
from joelclaw_tasks.fleet.tether import tether

_LINE_MAX_BYTES = 65_536
#: About a tenth of the CPU, beside a process that wants all of it.
_STAND_BACK_NICE = 10
_AUTOGROUP = Path("/proc/self/autogroup")


class View(Protocol):
    """Who watches the fleet: a terminal, or nobody."""

    def line(self, name: str, text: str) -> None:
        """One log line of a process."""

    def event(self, name: str, what: str) -> None:
        """A change in a process's life, in words."""


class Child:
    """A process and its history over restarts. `on_change` is called after each start, readiness and end."""

    def __init__(
        self,
        spec: ProcessSpec,
        *,
        logs_dir: Path,
        env: Mapping[str, str],
        view: View,
        on_change: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.log = ProcessLog(logs_dir / f"{spec.name}.log")
        self.restarts = 0
        self.crashes_in_a_row = 0
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.keeper: asyncio.Task[None] | None = None
        self._env = dict(env if spec.environ is None else spec.environ)
        self._view, self._on_change = view, on_change
        self._process: asyncio.subprocess.Process | None = None
        self._ready_at: float | None = None
        self._tie = tether()

    @property
    def pid(self) -> int | None:
        """Process id, or None while it is not running."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the process, or all of its group.

        TERM goes to the leader alone: the workers of a pool would die of it in the middle of a
        task, while their leader lets them finish.
        """
        if self._process is not None and (group or self.pid is not None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                (os.killpg if group else os.kill)(self._process.pid, number)

    async def live(self) -> tuple[int, float | None]:
        """One life: start it and wait for its end.

        Returns the exit code (negative: the signal that ended it; 127: there is nothing to run),
        and for how many seconds it was ready (None: it never was).
        """
        self._ready_at = None
        began = time.monotonic()
        read_end, write_end = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv, stdin=asyncio.subprocess.DEVNULL, stdout=write_end, stderr=write_end,
                env=self._env, start_new_session=True, preexec_fn=self._prepare, umask=self.spec.umask,
            )  # fmt: skip
        except OSError as error:
            os.close(read_end)
            self.log.write(str(error))
            return 127, None
        finally:
            os.close(write_end)
        self._on_change()
        if self.stopping.is_set():  # asked while it was being started
            self.send(signal.SIGTERM)
        reading = asyncio.create_task(self._read(read_end, began))
        probing = asyncio.create_task(self._probe(began))
        code = await self._process.wait()
        ended = time.monotonic()
        probing.cancel()
        # What it left in its group would hold its port, or go on working without a leader.
        self.send(signal.SIGKILL, group=True)
        await first(reading, timeout_s=1.0)
        reading.cancel()
        self.ready.clear()
        self._on_change()
        return code, self._ready_for_s(ended)

    def _prepare(self) -> None:
        self._tie()
        if self.spec.stands_back:
            os.nice(_STAND_BACK_NICE)
            # Of Linux alone, and a container may forbid it.
            with contextlib.suppress(AttributeError, OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            # Where sessions share the CPU alike, nice counts only within one, and each child has its own.
            with contextlib.suppress(OSError):
                _AUTOGROUP.write_text(str(_STAND_BACK_NICE))

    def _ready_for_s(self, ended: float) -> float | None:
        return None if self._ready_at is None else ended - self._ready_at

    def _became_ready(self, began: float) -> None:
        if self._ready_at is None:
            self._ready_at = time.monotonic()
            self.ready.set()
            self._view.event(self.spec.name, f"ready after {self._ready_at - began:.1f} s")
            self._on_change()

    async def _probe(self, began: float) -> None:
        if self.spec.probe is not None:
            while not await self.spec.probe():  # noqa: ASYNC110 - nobody could set an event
                await asyncio.sleep(0.05)
            self._became_ready(began)
        elif self.spec.ready_line is None:
            self._became_ready(began)

    async def _read(self, descriptor: int, began: float) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        awaited = re.compile(self.spec.ready_line) if self.spec.ready_line else None
        rest = b""
        try:
            while chunk := await reader.read(_LINE_MAX_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LINE_MAX_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    text = self._keep_line(line)
                    if awaited and awaited.search(text):
                        self._became_ready(began)
            if rest:
                self._keep_line(rest)
        finally:
            transport.close()

    def _keep_line(self, line: bytes) -> str:
        text = line.decode(errors="replace").rstrip("\r")
        self.log.write(text)
        self._view.line(self.spec.name, text)
        return text


async def first(*waits: Awaitable[Any], timeout_s: float | None) -> None:
    """Wait until one of them is done or the time is up. Futures and tasks go on, coroutines are dropped."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task, wait in zip(tasks, waits, strict=True):
        if task is not wait:
            task.cancel()
