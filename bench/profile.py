"""Where a task's CPU goes: `python -m bench.profile --side ours --pool threads`.

Runs one worker (or, with `--pool publish` or `--pool emit_many`, one producer) under a profiler and
prints functions in microseconds per task, those of joelclaw_tasks marked with `*`. The default
profiler is py-spy (`pip install py-spy`), which samples running threads and slows nothing much;
`--with cprofile` counts calls exactly, doubles the run time and sees only the main thread, so it
is for solo and the producers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pstats
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.noop import BROKER_URL, RECORDS_PATH
from bench.plan import POOLS, SIDES
from bench.processes import (
    ROOT,
    Producer,
    child_environment,
    producer,
    redis_server,
    wait_for,
    worker_command,
)
from bench.records import count_records

_SAMPLES_PER_S = 400
_PRODUCERS = ("publish", "emit_many")
_FRAME = re.compile(r"^(?P<function>.*) \((?P<file>[^():]*)(?::(?P<line>\d+))?\)$")


@dataclass(frozen=True)
class Cost:
    """One function. Microseconds per task: in itself, and with everything it called."""

    name: str
    self_us: float
    total_us: float
    calls: float | None = None  # per task; None when the profiler samples

    @property
    def is_ours(self) -> bool:
        """Whether the function is part of this project."""
        return "joelclaw_tasks" in self.name


def read_samples(lines: Iterable[str], tasks: int, samples_per_s: int = _SAMPLES_PER_S) -> list[Cost]:
    """Costs from collapsed stacks (`frame;frame;frame count`), start-up imports left out."""
    self_count: Counter[str] = Counter()
    total_count: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if "importlib" in stack or "_find_and_load" in stack:
            continue
        frames = [_short(frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        self_count[frames[-1]] += int(count)
        for frame in set(frames):
            total_count[frame] += int(count)
    unit = 1e6 / samples_per_s / tasks
    return [Cost(name, self_count[name] * unit, count * unit) for name, count in total_count.items()]


def read_calls(path: Path, tasks: int) -> list[Cost]:
    """Costs from a cProfile file."""
    rows = pstats.Stats(str(path)).stats.items()  # type: ignore[attr-defined]
    return [
        Cost(_short(f"{function} ({file}:{line})"), own * 1e6 / tasks, total * 1e6 / tasks, calls / tasks)
        for (file, line, function), (_, calls, own, total, _) in rows
        if "importlib" not in file
    ]


def _short(frame: str) -> str:
    """`function (package/file.py:line)`: the path from the package on."""
    match = _FRAME.match(frame)
    if match is None:
        return frame
    parts = Path(match["file"]).parts
    if "site-packages" in parts:
        keep = parts[parts.index("site-packages") + 1 :]
    elif "joelclaw_tasks" in parts:
        keep = parts[parts.index("joelclaw_tasks") :]
    else:
        keep = parts if len(parts) == 1 else ("stdlib" if "lib" in parts else "bench", *parts[-2:])
    return f"{match['function']} ({'/'.join(keep)}:{match['line']})"


def report(costs: list[Cost], top: int) -> str:
    """Three tables: by package, most expensive in themselves, and our own functions with what they call."""
    packages: defaultdict[str, float] = defaultdict(float)
    for cost in costs:
        packages[re.split(r"[/.:]", cost.name.rpartition("(")[2])[0]] += cost.self_us
    ranked = sorted(packages.items(), key=lambda entry: -entry[1])
    lines = ["µs per task by package:"]
    lines += [f"  {self_us:9.1f}  {name}" for name, self_us in ranked[:12]]
    lines += [f"  {sum(packages.values()):9.1f}  in all", "", f"{'self':>9} {'total':>9} {'calls':>6}"]
    lines += [_row(cost) for cost in sorted(costs, key=lambda c: -c.self_us)[:top]]
    ours = sorted((cost for cost in costs if cost.is_ours), key=lambda c: -c.total_us)
    lines += ["", "joelclaw_tasks, by total:"] + [_row(cost) for cost in ours[:top]]
    return "\n".join(lines)


def _row(cost: Cost) -> str:
    calls = "" if cost.calls is None else f"{cost.calls:.2f}"
    return f"{cost.self_us:9.1f} {cost.total_us:9.1f} {calls:>6} {'*' if cost.is_ours else ' '} {cost.name}"


def main() -> int:
    """Profile what the arguments say, print the report."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--side", choices=SIDES, default="ours")
    parser.add_argument("--pool", choices=[*POOLS, *_PRODUCERS], default="threads")
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--with", dest="profiler", choices=("py-spy", "cprofile"), default="py-spy")
    parser.add_argument("--gil", action="store_true", help="py-spy: only threads that hold the GIL")
    options = parser.parse_args()
    if options.profiler == "py-spy" and shutil.which("py-spy") is None:
        parser.error("py-spy is not on PATH: pip install py-spy, or use --with cprofile")
    if options.profiler == "cprofile" and options.pool in ("threads", "prefork"):
        parser.error("cProfile sees only the main thread of a process: use py-spy for this pool")
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, redis_server(Path(directory)) as port:
        profile_path = Path(directory) / "profile"
        url = f"redis://127.0.0.1:{port}/0"
        if options.pool in _PRODUCERS:
            _profile_producer(options, url, Path(directory), profile_path)
        else:
            _profile_worker(options, url, Path(directory), profile_path)
        if options.profiler == "cprofile":
            costs = read_calls(profile_path, options.tasks)
        else:
            costs = read_samples(profile_path.read_text().splitlines(), options.tasks)
    print(report(costs, options.top))
    return 0


def _under_profiler(options: argparse.Namespace, profile_path: Path, arguments: list[str]) -> list[str]:
    if options.profiler == "cprofile":
        return [sys.executable, "-m", "cProfile", "-o", str(profile_path), *arguments]
    flags = ["--gil"] if options.gil else []
    flags += ["--subprocesses"] if options.pool == "prefork" else []
    form = ["--rate", str(_SAMPLES_PER_S), "--format", "raw", "--function", "--full-filenames"]
    return [
        "py-spy",
        "record",
        *form,
        "--output",
        str(profile_path),
        *flags,
        "--",
        sys.executable,
        *arguments,
    ]


def _profile_worker(options: argparse.Namespace, url: str, home: Path, profile_path: Path) -> None:
    """Consume a backlog in a worker under the profiler, then stop it the ordinary way."""
    records, pid_file = home / "records", home / "worker.pid"
    with producer(options.side, url, home) as publisher:
        publisher.do("publish", count=options.tasks)
    arguments = [*worker_command(options.side, options.pool), "--pidfile", str(pid_file)]
    process = subprocess.Popen(
        _under_profiler(options, profile_path, arguments),
        env=child_environment(home, **{BROKER_URL: url, RECORDS_PATH: str(records)}),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        seconds = 60 + options.tasks / 20
        wait_for(lambda: count_records(records) >= options.tasks, "the backlog is consumed", seconds)
    finally:
        # The profiler writes its file when the process it watches has ended.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
        process.wait(30)


def _profile_producer(options: argparse.Namespace, url: str, home: Path, profile_path: Path) -> None:
    """Publish or emit from a producer under the profiler."""
    process = subprocess.Popen(
        _under_profiler(options, profile_path, ["-m", "bench.producer", options.side]),
        env=child_environment(home, **{BROKER_URL: url}),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer = Producer(process).do(options.pool, count=options.tasks)
    print(f"{options.tasks / answer['seconds']:,.0f} a second, under the profiler")
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
