"""Observing: the contest of all worlds, on several processors at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing.util import Finalize
from tempfile import TemporaryDirectory
from typing import Any

from joelclaw_tasks.evaluation.bench import Bench, open_bench
from joelclaw_tasks.evaluation.contest import NOTHING, World, play_world, totals_of, worlds_of
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.scripted import operate
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.intelligence.operator import Operator
from joelclaw_tasks.settings import Settings

STATIC, SCRIPTED, LIVE = "static", "scripted", "live"
#: A world takes as much of Redis as of Python, so more processes than this are of no use to it.
_MOST_PROCESSES = 4

Say = Callable[[str], object]
#: A world, and what the scripted and the live model have cost in it (US dollars).
_Done = tuple[World, float, float]


def observe_worlds(
    settings: Settings, *, seed: int, worlds: int, scripted_every: int = 1, live: bool = False, say: Say
) -> dict[str, Any]:
    """Play all worlds; answers the totals of each operator and a line for each world.

    The scripted model, which takes longest, plays one of `scripted_every` worlds. With `live`
    the model of the registry plays, too, one world at a time: its budget is one. Raises FleetError.
    """
    tasks = [
        (kind, world_seed, number % scripted_every == (1 if scripted_every > 1 else 0))
        for number, (kind, world_seed) in enumerate(worlds_of(seed, worlds))
    ]
    done: list[_Done] = []
    alone = live or len(tasks) == 1
    played = _here(settings, tasks, live, say) if alone else _side_by_side(settings, tasks)
    for one in played:
        done.append(one)
        say(f"{len(done)} of {len(tasks)} worlds are played")
    return _report([world for world, _, _ in done], done)


def _report(worlds: Sequence[World], done: Sequence[_Done]) -> dict[str, Any]:
    result: dict[str, Any] = {LIVE: None}
    for name in (NOTHING, STATIC, SCRIPTED, LIVE):
        of = [world for world in worlds if name in world.entries]
        if of:
            result[name] = {"worlds": len(of), **totals_of(of, name)}
    for position, name in ((1, SCRIPTED), (2, LIVE)):
        if result.get(name) is not None:
            result[name]["cost_usd"] = round(sum(float(one[position]) for one in done), 4)
    result["worlds"] = [world.to_wire() for world in worlds]
    return result


def _play(bench: Bench, kind: FaultKind, seed: int, scripted: bool, say: Say) -> _Done:
    operators: dict[str, Operator | None] = {STATIC: None}
    if scripted:
        operators[SCRIPTED] = ModelOperator(bench.scripted)
    if bench.live is not None:
        operators[LIVE] = ModelOperator(bench.live)
    before = [bench.cost_usd(name) for name in (SCRIPTED, LIVE)]
    bench.api.rule = operate
    world = play_world(bench.stage, kind, seed, operators, say)
    costs = [bench.cost_usd(name) - was for name, was in zip((SCRIPTED, LIVE), before, strict=True)]
    return world, costs[0], costs[1]


def _here(
    settings: Settings, tasks: Sequence[tuple[FaultKind, int, bool]], live: bool, say: Say
) -> Iterator[_Done]:
    with open_bench(settings, live=live) as bench:
        for kind, seed, scripted in tasks:
            yield _play(bench, kind, seed, scripted, say)


# -- in processes of its own ----------------------------------------------------------------------

_BENCH: list[Bench] = []


def _side_by_side(settings: Settings, tasks: Sequence[tuple[FaultKind, int, bool]]) -> Iterator[_Done]:
    """The worlds in their order, whoever plays them."""
    others = set(multiprocessing.active_children())
    with TemporaryDirectory(prefix="joelclaw-eval-") as folder:
        pool = ProcessPoolExecutor(
            min(len(tasks), _MOST_PROCESSES, max(2, os.cpu_count() or 2)),
            mp_context=multiprocessing.get_context("spawn"),  # a fork would copy the threads of a progress bar
            initializer=_open,
            initargs=(settings, folder),
        )
        try:
            futures: list[Future[_Done]] = [pool.submit(_play_in_process, *task) for task in tasks]
            for future in futures:
                yield future.result()
        except BaseException:
            for child in set(multiprocessing.active_children()) - others:
                child.terminate()  # nobody waits for a world that is not wanted any more
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _open(settings: Settings, folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    tempfile.tempdir = folder  # the parent's, which is there to remove what is left when we are killed
    stack = ExitStack()
    _BENCH.append(stack.enter_context(open_bench(settings)))
    Finalize(stack, stack.close, exitpriority=1)  # when the process ends; nothing of atexit runs in it


def _play_in_process(kind: FaultKind, seed: int, scripted: bool) -> _Done:
    return _play(_BENCH[0], kind, seed, scripted, lambda _: None)
