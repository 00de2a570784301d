"""Runs a watcher: what the system tells comes from a thread, and a signal ends it between two steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import watchfiles

from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import WatchRefused
from joelclaw_tasks.handlers.vault import content_root
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.watch.state import WatchState, hold
from joelclaw_tasks.watch.watcher import Counts, Watcher

_LONGEST_WAIT_S = 5.0
_Told = queue.SimpleQueue[frozenset[str] | str | None]


def roots_of(settings: Settings, dirs: Sequence[Path] = ()) -> dict[Path, Path | None]:
    """The folders to watch, resolved, each with the content folder when it is in that.

    None named: those of the settings, else the content folder. Raises WatchRefused for one that is missing,
    or that the workers would not validate.
    """
    content = content_root(settings.files_dir)
    chosen = [each.expanduser().resolve() for each in dirs] or list(settings.watched) or [content]
    roots: dict[Path, Path | None] = {}
    for root in chosen:
        if not root.is_dir():
            raise WatchRefused(f"{root} is not a folder")
        if root.is_relative_to(content):
            roots[root] = content
        elif any(root.is_relative_to(each) for each in settings.watched):
            roots[root] = None
        else:
            raise WatchRefused(
                f"{root} is neither in the content folder nor in JOELCLAW_WATCH_DIRS",
                fix="Add it to JOELCLAW_WATCH_DIRS, for the workers too: they validate nothing else.",
            )
    return roots


def watch(
    settings: Settings,
    roots: dict[Path, Path | None],
    *,
    say: Callable[[str], None],
    stop: threading.Event,
    once: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> Counts:
    """Watch until `stop` is set; answers what was done. Raises WatchRunning, RegistryError.

    `once`: tell what changed since the last time, then end.

    While Redis is away it waits; nothing is lost, since the state is saved after Redis has taken the event.
    """
    folder = settings.home / "watch"
    with hold(folder):
        state = WatchState(folder)
        try:
            state.forget_gone(2 * settings.keep_finished_ms / 1000)
            watcher = Watcher(
                roots,
                state,
                _LateEmitter(settings).emit_many,
                quiet_s=settings.watch_quiet_ms / 1000,
                rescan_s=settings.watch_rescan_s,
                say=say,
            )
            told: _Told = queue.SimpleQueue()
            if not once:
                listener = threading.Thread(target=_listen, args=(list(roots), told, stop), daemon=True)
                listener.start()
            on_ready()
            while not stop.is_set():
                wait_s = watcher.step()
                if once and watcher.is_settled:
                    break
                _take(told, watcher, min(_LONGEST_WAIT_S, wait_s), say)
            return watcher.counts
        finally:
            stop.set()  # ends the listener too
            state.close()


def _take(told: _Told, watcher: Watcher, wait_s: float, say: Callable[[str], None]) -> None:
    try:
        paths = told.get(timeout=wait_s)
    except queue.Empty:
        return
    if isinstance(paths, str):
        say(f"the system tells of no changes ({paths}); they are found by looking, which takes longer")
    elif paths is not None:
        watcher.told(paths)


def _listen(roots: Iterable[Path], told: _Told, stop: threading.Event) -> None:
    try:
        for changes in watchfiles.watch(
            *roots,
            watch_filter=None,
            debounce=50,
            step=20,
            rust_timeout=500,
            stop_event=stop,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            told.put(frozenset(path for _, path in changes))
    except Exception as error:  # noqa: BLE001 - whatever the system lacks, scanning goes on
        told.put(f"{type(error).__name__}: {error}"[:200])
    told.put(None)


class _LateEmitter:
    """Connects when the first event is to be emitted, and again while Redis does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._emitter: Emitter | None = None

    def emit_many(self, events: list[NewEvent]) -> object:
        if self._emitter is None:
            self._emitter = Emitter.connect(self._settings)
        return self._emitter.emit_many(events)
