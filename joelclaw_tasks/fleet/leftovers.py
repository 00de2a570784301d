"""Processes that a killed `joelclaw up` left behind: remembered by pid and start time, ended cleanly.

A pid alone proves nothing: the number may belong to someone else by now. So a process is
signalled only when the one that has the pid also started at the recorded moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from joelclaw_tasks.whole_file import write_whole

_PROC = Path("/proc")
_KILLED_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A process that we started: the leader of its own process group."""

    name: str
    pid: int
    started: str
    stage: int


def start_mark(pid: int) -> str | None:
    """What tells this process from any other that ever had the pid; None when it is gone or a zombie."""
    if (_PROC / "self/stat").exists():
        fields = _stat(pid)
        if fields is None or fields[0] == "Z":
            return None
        # Clock ticks since boot, so the boot belongs to it.
        return f"{_boot_id()}:{fields[19]}"
    state, _, started = _ps("-o", "stat=,lstart=", "-p", str(pid)).strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def group_members(leader_pid: int) -> list[int]:
    """Living processes of a process group, the leader included."""
    if not (_PROC / "self/stat").exists():
        rows = (line.split() for line in _ps("-A", "-o", "pid=,pgid=,stat=").splitlines())
        return [int(row[0]) for row in rows if int(row[1]) == leader_pid and not row[2].startswith("Z")]
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    stats = [(pid, _stat(pid)) for pid in pids]
    return [pid for pid, stat in stats if stat is not None and stat[2] == str(leader_pid) and stat[0] != "Z"]


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "boot"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the state on (the command's name may hold spaces)."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def record(path: Path, processes: Iterable[Recorded]) -> None:
    """Replace the list of running processes (mode 0600)."""
    write_whole(path, json.dumps([asdict(process) for process in processes]).encode())


def end_leftovers(path: Path, grace_s: float = 15.0) -> list[str]:
    """End what the recorded fleet left running, highest stage first: TERM, then KILL after the grace.

    Returns the names of the processes that were still there, and removes the record.
    """
    try:
        left = [Recorded(**entry) for entry in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        left = []  # half a file cannot be: written whole. Someone else's words: nothing to trust
    ended = []
    for stage in sorted({process.stage for process in left}, reverse=True):
        alive = [process for process in left if process.stage == stage and _members(process)]
        for process in alive:
            if start_mark(process.pid) == process.started:
                _signal(process.pid, signal.SIGTERM)
        _wait(lambda one: start_mark(one.pid) == one.started, alive, grace_s)
        # A group may outlive its leader: workers of a pool whose main process was killed.
        for process in alive:
            for pid in _members(process):
                _signal(pid, signal.SIGKILL)
        _wait(lambda one: bool(_members(one)), alive, _KILLED_WITHIN_S)
        ended += [process.name for process in alive]
    path.unlink(missing_ok=True)
    return ended


def _wait(still: Callable[[Recorded], bool], processes: Sequence[Recorded], most_s: float) -> None:
    deadline = time.monotonic() + most_s
    while any(still(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def _members(process: Recorded) -> list[int]:
    """The group's living processes, or none when the pid belongs to a stranger by now."""
    mark = start_mark(process.pid)
    if mark is not None:
        return group_members(process.pid) if mark == process.started else []
    # The leader is gone. Its number cannot be given to another while the group lives, but all may
    # have gone and the number come round again: only members of the same boot, started later, are ours.
    boot, _, ticks = process.started.rpartition(":")
    members = [(pid, start_mark(pid) or "") for pid in group_members(process.pid)]
    later = [(pid, mark.rpartition(":")) for pid, mark in members if mark.rpartition(":")[2].isdigit()]
    return [pid for pid, (own, _, own_ticks) in later if own == boot and int(own_ticks) >= int(ticks)]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
