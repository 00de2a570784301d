"""Runs the rules of a folder on a document, in processes that are kept; one that hangs is ended.

A worker keeps one process for each document that it validates at a time. A time limit inside the worker could
not be kept: no thread can be ended, and the threads pool has no signals.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joelclaw_tasks.handlers.document import Document
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.rule_files import rule_paths

_log = logging.getLogger(__name__)
_START_S = 20.0
_MOST_LINE_BYTES = 1 << 20
#: A rule that ran out of time so often in a row is left out until its file changes.
ASIDE_AFTER = 3
#: Rules need no secrets, so they get none.
_HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Checked:
    """What the rules found, and the modules of the folder in their JSON form (see RuleModule)."""

    findings: tuple[Finding, ...] = ()
    modules: tuple[Mapping[str, Any], ...] = ()

    @property
    def troubles(self) -> list[dict[str, Any]]:
        """The modules that are not good: name, status and error."""
        return [
            {name: module[name] for name in ("name", "status", "error")}
            for module in self.modules
            if module["status"] != "good"
        ]


class RulePool:
    """The processes of one folder of rules. Safe to share between threads; make it after a fork."""

    def __init__(self, folder: Path, kept: Path, limit_ms: int) -> None:
        self._folder, self._kept, self._limit_s = folder, kept, limit_ms / 1000
        self._idle: list[_Process] = []
        self._guard = threading.Lock()
        self._hung: dict[str, list[str]] = {}
        self._late: dict[tuple[str, str], int] = {}
        self._said: set[tuple[str, str, str]] = set()

    def check(self, document: Document) -> Checked:
        """Run every rule on the document. Raises OSError when no process can be started."""
        wanted = {"root": str(document.root), "path": str(document.path), "kind": document.kind}
        return self._ask({**wanted, "text": document.text})

    def modules(self) -> Checked:
        """Load what has changed, run nothing."""
        return self._ask({})

    def close(self) -> None:
        """End the processes that do nothing."""
        with self._guard:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def _ask(self, wanted: Mapping[str, Any]) -> Checked:
        if not rule_paths(self._folder):
            return Checked()
        found: list[Finding] = []
        done: list[str] = []
        # Every turn but the last takes out one rule, or one version of a module.
        while True:
            process, is_new = self._process()
            under_way: Mapping[str, Any] = {}
            try:
                for line in process.ask({**wanted, "done": done, **self._left_out()}, self._limit_s):
                    if "modules" in line:
                        with self._guard:
                            self._idle.append(process)
                        self._say(line["modules"])
                        return Checked(tuple(found), tuple(line["modules"]))
                    if "aside" in line:
                        found.append(_set_aside(line["aside"]))
                    elif "rule" in line:
                        done.append(line["rule"])
                        found += [Finding(**finding) for finding in line["findings"]]
                        self._late.pop((line["rule"], under_way["digest"]), None)
                    under_way = line
            except _Ended as ended:
                process.end()
                if "running" in under_way:
                    rule = under_way["running"]
                    self._count_late(rule, under_way["digest"])
                    done.append(rule)
                    found.append(Finding(1, "rule.timeout", f"the rule {rule} {ended}", "warning"))
                elif "loading" in under_way:
                    with self._guard:
                        self._hung.setdefault(under_way["loading"], []).append(under_way["digest"])
                elif is_new:
                    raise OSError(f"the process of the rules {ended}") from None
                # Else it was ended while it waited, and another one may do.
            except BaseException:  # such as the soft time limit of the job
                process.end()
                raise

    def _process(self) -> tuple[_Process, bool]:
        with self._guard:
            if self._idle:
                return self._idle.pop(), False
        return _Process(self._folder, self._kept, self._limit_s), True

    def _left_out(self) -> dict[str, Any]:
        with self._guard:
            aside: dict[str, list[str]] = {}
            for (rule, digest), times in self._late.items():
                if times >= ASIDE_AFTER:
                    aside.setdefault(rule, []).append(digest)
            return {"hung": {name: list(digests) for name, digests in self._hung.items()}, "aside": aside}

    def _count_late(self, rule: str, digest: str) -> None:
        with self._guard:
            self._late[rule, digest] = self._late.get((rule, digest), 0) + 1

    def _say(self, modules: Sequence[Mapping[str, Any]]) -> None:
        for module in modules:
            key = (module["name"], module["digest"], module["status"])
            if module["status"] != "good" and key not in self._said:
                self._said.add(key)
                which = "the last good version runs" if module["status"] == "kept" else "it is left out"
                _log.warning("rules: %s.py is broken, %s: %s", module["name"], which, module["error"])


class _Ended(Exception):
    """Why the process does not answer any more."""


class _Process:
    """One process of rules. Used by one thread at a time."""

    def __init__(self, folder: Path, kept: Path, limit_s: float) -> None:
        environ = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        self._process = subprocess.Popen(
            (
                sys.executable,
                "-m",
                "joelclaw_tasks.handlers.rule_process",
                str(folder.resolve()),
                str(kept.resolve()),
                str(int(limit_s * 1000)),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout.fileno()
        self._read = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._is_ready = False

    def ask(self, request: Mapping[str, Any], limit_s: float) -> Iterator[dict[str, Any]]:
        """The lines of its answer. Raises _Ended when it dies, or needs longer than `limit_s` for one."""
        if not self._is_ready:
            self._line(_START_S)
            self._is_ready = True
        try:
            # A document is at most 5 MB, and the process reads before it answers: this does not block.
            self._in.write(json.dumps(request).encode() + b"\n")
            self._in.flush()
        except OSError:
            raise _Ended("ended by itself") from None
        while True:
            line = self._line(limit_s)
            yield line
            if "modules" in line:
                return

    def end(self) -> None:
        """End it, with all that it started, and wait until it is gone."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        with contextlib.suppress(OSError):
            self._in.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _line(self, limit_s: float) -> dict[str, Any]:
        until = time.monotonic() + limit_s
        while b"\n" not in self._read:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise _Ended(f"did not end within {limit_s:g} s")
            part = os.read(self._out, 65_536)
            if not part or len(self._read) > _MOST_LINE_BYTES:
                raise _Ended("ended its process" if not part else "answered more than 1 MB")
            self._read += part
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _set_aside(rule: str) -> Finding:
    words = f"the rule {rule} is left out until its file changes: it ran out of time {ASIDE_AFTER} times"
    return Finding(1, "rule.timeout", words, "warning")


_pools: dict[tuple[int, Path, Path, int], RulePool] = {}
_making = threading.Lock()


def pool_of(folder: Path, kept: Path, limit_ms: int) -> RulePool:
    """The pool of this process for a folder; processes of a parent before a fork are not shared."""
    key = (os.getpid(), folder, kept, limit_ms)
    with _making:
        if key not in _pools:
            _pools[key] = RulePool(folder, kept, limit_ms)
        return _pools[key]
