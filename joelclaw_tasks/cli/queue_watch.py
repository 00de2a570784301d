"""joelclaw queue watch: the queue as it moves, on a whole terminal, or as JSON lines when it is piped."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.address import Address
from joelclaw_tasks.cli.command import command
from joelclaw_tasks.cli.envelope import ExitCode
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, open_store
from joelclaw_tasks.cli.terminal import console_of
from joelclaw_tasks.cli.watch_lines import ended_by_signals, now_ms, print_lines, take
from joelclaw_tasks.errors import CoreUnreachable

if TYPE_CHECKING:
    from joelclaw_tasks.cli.keyboard import Keyboard
    from joelclaw_tasks.cli.watch_reader import News, Reader
    from joelclaw_tasks.cli.watch_state import WatchState
    from joelclaw_tasks.core.store import Store

_PAUSE_MS = 900_000
_TIMEOUT_S = 2.0
#: A picture that is so much overdue is called old.
_PATIENCE_MS = 1_500
#: The jobs that `i` looks through, to find the next ones of a family.
_LOOKED_THROUGH = 200
_JOBS_SHOWN = 6
_ASKING = "asking about"
_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}


@command
def watch(
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=60, help="Seconds between two looks.")
    ] = 1.0,
    count: Annotated[int, typer.Option("--count", min=0, help="Stop after so many looks (0: never).")] = 0,
    actor: Actor = None,
) -> None:
    """The queue as it moves: families, gates, rates, failures; keys pause, resume and inspect."""
    by = actor_of(actor)
    store = open_store(timeout_s=_TIMEOUT_S)
    if current().as_json:
        progress().be_silent()
        code = print_lines(store, interval, count)
        if code is not ExitCode.OK:
            raise typer.Exit(code)
        return
    first = take(store)
    progress().be_silent()
    with ended_by_signals():
        _show(store, interval, count, by, first)


def _show(store: Store, interval_s: float, count: int, actor: str, first: dict[str, Any]) -> None:
    """The full-screen view, until a key or a signal ends it; the terminal is then as it was before."""
    from rich.console import Group
    from rich.live import Live

    from joelclaw_tasks.cli.keyboard import Keyboard
    from joelclaw_tasks.cli.watch_reader import Reader
    from joelclaw_tasks.cli.watch_screen import draw
    from joelclaw_tasks.cli.watch_state import WatchState

    console = console_of("stdout")
    stale_ms = int(interval_s * 1_000) + _PATIENCE_MS
    state = WatchState(_place(), now_ms(), stale_ms, first)
    with (
        Keyboard(sys.stdin) as keyboard,
        Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        as live,
        Reader(store, take, interval_s) as reader,
    ):  # fmt: skip
        watcher = _Watcher(state, reader, actor, count)
        while not watcher.is_over:
            width, height = console.size
            lines = draw(state, width, height, now_ms())
            live.update(Group(*lines), refresh=True)
            watcher.wait(keyboard)


class _Watcher:
    """Reacts to keys and news."""

    def __init__(self, state: WatchState, reader: Reader, actor: str, count: int) -> None:
        self._state = state
        self._reader = reader
        self._actor = actor
        self._left = count or -1
        self.is_over = False

    def wait(self, keyboard: Keyboard) -> None:
        """Wait for a key, for news or for the clock on the screen."""
        sources = [self._reader.fd, *([keyboard.fd] if keyboard.is_there else [])]
        ready, _, _ = select.select(sources, [], [], 1.0)
        if self._reader.fd in ready:
            for news in self._reader.news():
                self._take_in(news)
        if keyboard.fd in ready:
            for key in keyboard.read():
                self._press(key)

    def _take_in(self, news: News) -> None:
        state = self._state
        if news.picture is not None:
            state.picture, state.seen_at = news.picture, now_ms()
            self._left -= 1
            self.is_over = self.is_over or self._left == 0
        elif news.is_request and news.error is None:
            if isinstance(news.answer, dict):
                state.detail = news.answer
                state.notice = "" if state.notice.startswith(_ASKING) else state.notice
            else:
                state.notice = str(news.answer)
                if state.detail is not None:
                    self._look_into(state.detail["family"])
        elif news.is_request:
            state.notice = f"not done: {news.error}"
        elif news.error is not None and not isinstance(news.error, CoreUnreachable):
            raise news.error

    def _press(self, key: str) -> None:
        state = self._state
        state.notice = ""
        family = state.selected
        if key == "q":
            self.is_over = True
        elif state.detail is not None and key in {"i", "escape", "left"}:
            state.detail = None
        elif key in _STEPS and state.detail is None:
            state.move(_STEPS[key])
        elif family and key in {"i", "\n", "\r", "right"}:
            state.notice = f"{_ASKING} {family} …"
            self._look_into(family)
        elif family and key == "p":
            self._pause(family)
        elif family and key == "r":
            self._reader.ask(lambda store: self._resume(store, family))

    def _pause(self, family: str) -> None:
        held = self._state.pauses_of(family)
        if held:
            # Whoever paused it may have meant longer than 15 minutes.
            self._state.notice = f"{family} is paused already, by {held[0].get('actor') or '-'}"
            return
        gate = f"pause:family/{family}"

        def pause(store: Store) -> str:
            store.pause(gate, actor=self._actor, reason="from queue watch", ttl_ms=_PAUSE_MS)
            return f"paused {family} for 15 min; r resumes it"

        self._reader.ask(pause)

    def _look_into(self, family: str) -> None:
        self._reader.ask(lambda store: _look_into(store, family))

    def _resume(self, store: Store, family: str) -> str:
        previous = store.resume(f"pause:family/{family}", actor=self._actor, reason="from queue watch")
        return f"{family} was not paused" if previous is None else f"resumed {family}"


def _look_into(store: Store, family: str) -> dict[str, Any]:
    """What the detail of a family shows beside the picture: what holds it, and its next jobs."""
    from joelclaw_tasks.core.explain import Explainer

    explained = Explainer(store).family(family)
    jobs = [job for job in store.list_jobs(_LOOKED_THROUGH) if job["family"] == family]
    return {**explained, "jobs": jobs[:_JOBS_SHOWN]}


def _place() -> str:
    """Where Redis is, without its password."""
    return Address.parse(current().settings().redis_url or "unix://").place
