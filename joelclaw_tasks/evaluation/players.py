"""Players: calls that need a bench each, on several processors at once, or one after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.util import Finalize
from tempfile import TemporaryDirectory
from typing import Any

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.evaluation.bench import Bench, open_bench
from joelclaw_tasks.fleet.redis_server import find_server
from joelclaw_tasks.settings import Settings

#: A function of a module, which gets the bench before these arguments.
Call = tuple[Callable[..., Any], tuple[Any, ...]]
#: A world takes as much of Redis as of Python: more processes than this are of no use on most machines.
_MOST_PROCESSES = 4


def one_by_one(settings: Settings, calls: Sequence[Call], *, live: bool = False) -> Iterator[Any]:
    """The answers in their order, all from one bench. Raises what `open_bench` raises."""
    with open_bench(settings, live=live) as bench:
        for function, arguments in calls:
            yield function(bench, *arguments)


def side_by_side(groups: Sequence[Sequence[Call]]) -> Iterator[Any]:
    """The answers in their order, whoever is done first, each process with a bench of its own.

    The calls of a group are made by one process. None asks a live model, so none is given a key. Raises
    FleetError when there is no Redis server binary, or when a process dies.
    """
    find_server()  # here, where the reason can be told
    others = set(multiprocessing.active_children())
    with TemporaryDirectory(prefix="joelclaw-eval-") as folder:
        pool = ProcessPoolExecutor(
            min(len(groups), _MOST_PROCESSES, max(2, os.cpu_count() or 2)),
            mp_context=multiprocessing.get_context(
                "spawn"
            ),  # a fork would copy the threads of a progress bar
            initializer=_open,
            initargs=(folder,),
        )
        try:
            for future in [pool.submit(_call, group) for group in groups]:
                yield from future.result()
        except BrokenProcessPool:
            raise FleetError(
                "a process that played worlds has died before it was done",
                fix="Look whether memory or disk are full, then run it again; `--worlds` makes it shorter.",
            ) from None
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()  # nobody waits any more for what it does
            raise
        finally:
            pool.shutdown(cancel_futures=True)


_BENCH: list[Bench] = []


def _open(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    tempfile.tempdir = folder  # the parent's, which is there to remove what is left when we are killed
    stack = ExitStack()
    _BENCH.append(stack.enter_context(open_bench(Settings())))
    Finalize(stack, stack.close, exitpriority=1)  # when the process ends; nothing of atexit runs in it


def _call(group: Sequence[Call]) -> list[Any]:
    return [function(_BENCH[0], *arguments) for function, arguments in group]
