"""The modules of the rules folder: loaded anew when a file changed, the last good version kept.

A version that loads is stored beside the folder, so that a process that starts while the file is broken has
the last good one too.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.whole_file import write_whole

MOST_BYTES = 1_000_000
Status = Literal["good", "kept", "broken"]
_Print = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class RuleModule:
    """One file of the rules folder.

    `status`: good; kept, when the file is broken and the last good version runs; broken, when there is none.
    `digest` is that of the file, `running` that of the version that runs ("" for none).
    """

    name: str
    digest: str
    status: Status
    running: str = ""
    error: str = ""
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """The JSON form; `rules` are the names under which findings come."""
        wire = {name: getattr(self, name) for name in ("name", "digest", "status", "running", "error")}
        return wire | {"rules": list(self.functions)}


class RuleFiles:
    """The rules of one folder. `kept` is the folder of the last good versions.

    `on_load` is told the name and digest of what is about to be executed. Not for use by several threads.
    """

    def __init__(self, folder: Path, kept: Path, on_load: Callable[[str, str], None]) -> None:
        self._folder, self._kept, self._on_load = folder, kept, on_load
        self._modules: dict[str, RuleModule] = {}
        self._prints: dict[str, _Print] = {}

    def refresh(self, hung: Mapping[str, Sequence[str]]) -> list[RuleModule]:
        """The modules as the files are now. `hung`: digests by name of versions that did not load in time."""
        found = rule_paths(self._folder)
        for name in self._modules.keys() - found.keys():
            del self._modules[name], self._prints[name]
        for name, path in found.items():
            try:
                now = _print_of(path)
                if self._prints.get(name) != now:
                    self._modules[name] = self._load(name, path, hung.get(name, ()))
                    self._prints[name] = now
            except FileNotFoundError:  # it went just now; the next look sees it gone, or replaced
                continue
            except OSError as error:
                self._modules[name] = self._fallen_back(name, "", f"cannot be read: {error.strerror}", ())
                self._prints[name] = (0, 0, 0, 0)
        return [self._modules[name] for name in sorted(self._modules)]

    def _load(self, name: str, path: Path, hung: Sequence[str]) -> RuleModule:
        source = _read(path)
        digest = hashlib.sha256(source).hexdigest()[:16]
        before = self._modules.get(name)
        if before is not None and before.digest == digest:
            return before
        try:
            functions = self._executed(name, digest, source, str(path), hung)
        except _Broken as fault:
            return self._fallen_back(name, digest, str(fault), hung)
        kept = self._kept / f"{name}.py"
        if not kept.exists() or kept.read_bytes() != source:
            write_whole(kept, source)
        return RuleModule(name, digest, "good", digest, "", functions)

    def _fallen_back(self, name: str, digest: str, error: str, hung: Sequence[str]) -> RuleModule:
        before = self._modules.get(name)
        if before is not None and before.functions:
            return replace(before, digest=digest, status="kept", error=error)
        try:
            source = (self._kept / f"{name}.py").read_bytes()
            running = hashlib.sha256(source).hexdigest()[:16]
            functions = self._executed(name, running, source, f"{name}.py (last good)", hung)
        except (OSError, _Broken):
            return RuleModule(name, digest, "broken", "", error)
        return RuleModule(name, digest, "kept", running, error, functions)

    def _executed(
        self, name: str, digest: str, source: bytes, shown: str, hung: Sequence[str]
    ) -> dict[str, Callable[..., Any]]:
        if digest in hung:
            raise _Broken("it did not load within the time limit")
        if len(source) > MOST_BYTES:
            raise _Broken(f"it is larger than {MOST_BYTES:,} bytes")
        self._on_load(name, digest)
        module = ModuleType(f"joelclaw_rules_{name}")
        module.__file__ = shown
        before = sys.modules.get(module.__name__)
        sys.modules[module.__name__] = module  # dataclasses look their module up
        try:
            # The rules are the operator's own code: executing it is what the folder is for.
            exec(compile(source, shown, "exec"), module.__dict__)  # noqa: S102
            functions = _functions_of(module, name)
            if not functions:
                raise _Broken("it has no function check or check_…(document)")
        except BaseException as error:
            if before is not None:
                sys.modules[module.__name__] = before
            if isinstance(error, _Broken):
                raise
            raise _Broken(told(error)) from None
        return functions


class _Broken(Exception):
    """Why a version of a module cannot be used."""


def rule_paths(folder: Path) -> dict[str, Path]:
    """The modules of the folder by name; names that start with a dot or an underscore are none."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".py")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {name[:-3]: folder / name for name in names if name[:-3].isidentifier() and name[0] != "_"}


def told(error: BaseException) -> str:
    """An exception as one short line."""
    if isinstance(error, SyntaxError):
        return one_line(f"line {error.lineno}: {error.msg}", 200)
    return one_line(f"{type(error).__name__}: {error}", 200)


def _functions_of(module: ModuleType, name: str) -> dict[str, Callable[..., Any]]:
    return {
        name if own == "check" else f"{name}.{own.removeprefix('check_').replace('_', '-')}": function
        for own, function in vars(module).items()
        if (own == "check" or own.startswith("check_"))
        and inspect.isfunction(function)
        and function.__module__ == module.__name__
    }


def _print_of(path: Path) -> _Print:
    status = path.stat()
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _read(path: Path) -> bytes:
    # Opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a file")
        return stream.read(MOST_BYTES + 1)
