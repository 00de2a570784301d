"""The process in which rules run: `python -m joelclaw_tasks.handlers.rule_process FOLDER KEPT LIMIT_MS`.

One JSON line asks, several answer; the last one of an answer has `modules`. Before anything of a rule is
executed a line names it, so that who reads knows which one does not end. It ends itself when a rule does not
end and nobody is left to end it, or when stdin does.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from joelclaw_tasks.handlers.document import Document
from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.rule_files import RuleFiles, RuleModule, told

MOST_FINDINGS = 100
_MOST_MEMORY_BYTES = 2 << 30
_MOST_CHARACTERS = 500
Answer = Callable[[Mapping[str, Any]], None]


def findings_of(rule: str, function: Callable[[Document], Any], document: Document) -> list[Finding]:
    """What one rule finds. Whatever it raises is a finding too, beside those that it gave before."""
    found: list[Finding] = []
    try:
        given = function(document)
        for one in islice(() if given is None else _each(given), MOST_FINDINGS):
            found.append(_finding(rule, one))  # noqa: PERF401 - what came before it raised counts
    except BaseException as error:  # noqa: BLE001 - a rule is somebody's code; it may even call sys.exit
        found.append(Finding(1, "rule.raised", f"the rule {rule} failed: {told(error)}", "warning"))
    return found


def _each(given: Any) -> Iterable[Any]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"a rule gives findings, not {type(given).__name__}")
    return given


def _finding(rule: str, given: Any) -> Finding:
    """From a Finding, a text, or (line, message[, severity]). Raises TypeError."""
    if isinstance(given, Finding):
        parts: tuple[Any, ...] = (given.line, given.message, given.severity)
        rule = str(given.rule)[:100]
    elif isinstance(given, str):
        parts = (1, given, "error")
    elif isinstance(given, tuple) and len(given) in (2, 3):
        parts = given if len(given) == 3 else (*given, "error")
    else:
        raise TypeError(f"a finding is (line, message) or (line, message, severity), not {given!r:.60}")
    line, message, severity = parts
    if type(line) is not int or not isinstance(message, str) or severity not in ("error", "warning"):
        raise TypeError(f"a finding is (line, message) or (line, message, severity), not {given!r:.60}")
    return Finding(max(1, line), rule, one_line(message, _MOST_CHARACTERS), severity)


class _Runner:
    def __init__(self, folder: Path, kept: Path, limit_s: float, answer: Answer) -> None:
        self._files = RuleFiles(folder, kept, lambda name, digest: self._starts("loading", name, digest))
        self._limit_s, self._answer = limit_s, answer

    def _starts(self, what: str, name: str, digest: str) -> None:
        # Should whoever waits be gone, the kernel ends us.
        signal.setitimer(signal.ITIMER_REAL, self._limit_s + 2)
        self._answer({what: name, "digest": digest})

    def carry_out(self, asked: Mapping[str, Any]) -> None:
        modules = self._files.refresh(asked["hung"])
        if "text" in asked:
            document = Document(
                Path(asked["root"]), PurePosixPath(asked["path"]), asked["kind"], asked["text"]
            )
            for module in modules:
                self._run(module, document, asked)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._answer({"modules": [module.to_wire() for module in modules]})

    def _run(self, module: RuleModule, document: Document, asked: Mapping[str, Any]) -> None:
        for rule, function in module.functions.items():
            if rule in asked["done"]:
                continue
            if module.running in asked["aside"].get(rule, ()):
                self._answer({"aside": rule})
                continue
            self._starts("running", rule, module.running)
            found = findings_of(rule, function, document)
            self._answer({"rule": rule, "findings": [finding.to_wire() for finding in found]})


def main(arguments: list[str]) -> None:
    """Answer until stdin ends."""
    asking, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # a rule that prints or reads disturbs nobody
        os.dup2(nowhere, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, kept, limit_ms = arguments

    def answer(line: Mapping[str, Any]) -> None:
        body = memoryview(json.dumps(line).encode() + b"\n")
        while body:
            body = body[os.write(answers, body) :]

    runner = _Runner(Path(folder), Path(kept), int(limit_ms) / 1000, answer)
    answer({"ready": os.getpid()})
    with os.fdopen(asking, "rb") as requests:
        for request in requests:
            runner.carry_out(json.loads(request))


if __name__ == "__main__":
    main(sys.argv[1:])
