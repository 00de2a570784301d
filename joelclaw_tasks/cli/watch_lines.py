"""What `queue watch` does when it is piped: one JSON line for each look, the envelope as the last one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.envelope import ExitCode, Failure, Outcome, failed, succeeded, to_json
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.queue_parts import DEPTH
from joelclaw_tasks.cli.terminal import write
from joelclaw_tasks.errors import CoreUnreachable

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store


def take(store: Store) -> dict[str, Any]:
    """One look at the queue. Raises CoreUnreachable."""
    from joelclaw_tasks.telemetry.pulse import take_pulse

    return take_pulse(store)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the view the orderly way, so that the terminal is put back."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    # A stopped view would leave the shell with its screen and without its lines.
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_lines(store: Store, interval_s: float, count: int) -> ExitCode:
    """One JSON line per look; the last line is the envelope, whatever ends it."""
    lines = _Lines()
    try:
        with ended_by_signals():
            lines.say("start", interval_s=interval_s)
            _look_again_and_again(store, interval_s, count, lines.say)
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - every end has its line
        if isinstance(error, _NobodyReads):
            return ExitCode.OK
        cause = KeyboardInterrupt() if isinstance(error, SystemExit) else error
        failure = Failure.of(cause)
        lines.end("error", failed(current().command, failure))
        return failure.exit_code
    lines.end("result", succeeded(current().command, Outcome({"looks": lines.looks}, (DEPTH,))))
    return ExitCode.OK


def now_ms() -> int:
    """The time of this machine in epoch milliseconds."""
    return int(time.time() * 1_000)


def _look_again_and_again(store: Store, interval_s: float, count: int, say: Callable[..., None]) -> None:
    looks, is_away = 0, False
    while True:
        try:
            picture = take(store)
        except CoreUnreachable as error:
            if looks == 0:
                raise
            if not is_away:
                say("log", level="warn", message=str(error))
            is_away = True
        else:
            if is_away:
                say("log", level="info", message="Redis answers again")
            is_away = False
            say("event", name="snapshot", snapshot=picture)
            looks += 1
            if looks == count:
                return
        time.sleep(interval_s)


class _NobodyReads(Exception):
    """The reader of the lines has gone away."""


class _Lines:
    """Writes JSON lines on stdout."""

    def __init__(self) -> None:
        self.looks = 0

    def say(self, kind: str, **fields: Any) -> None:
        """One line, with its type and time. Raises _NobodyReads."""
        self.looks += kind == "event"
        line = {"type": kind, "command": current().command, "at": now_ms(), **fields}
        if not write(to_json(line, one_line=True)):
            raise _NobodyReads

    def end(self, kind: str, envelope: dict[str, Any]) -> None:
        """The last line: the envelope."""
        write(to_json({"type": kind, "at": now_ms(), **envelope}, one_line=True))
