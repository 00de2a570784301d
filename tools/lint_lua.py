"""Check the Lua scripts under joelclaw_tasks/core/lua, each as it is sent to Redis: spliced.

A script must compile under Lua 5.1, assign no global, read none but those that Redis offers
and leave no local unused. Each file opens with a comment that says what it is for, and no
line is longer than 110. A local of a shared file must be used by one of its includers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luaparser import ast, astnodes
from lupa import lua51

from joelclaw_tasks.core import keys
from joelclaw_tasks.core.scripts import DIRECTIVE, Line, splice

ROOT = Path(__file__).resolve().parent.parent
LUA_DIR = ROOT / "joelclaw_tasks" / "core" / "lua"
LINE_LENGTH = 110
GLOBALS = frozenset(
    ("redis", "cjson", "KEYS", "ARGV", "string", "table", "math", "tonumber", "tostring", "pairs", "ipairs",
     "type", "unpack", "error", "pcall", "select", "next", "assert")
)  # fmt: skip
_PURPOSE = re.compile(r"--+\s*\S+\s+\S+")  # two words at least


#: Writes the keys out in the text of a script, line by line.
WriteKeys = Callable[[str], str]


@dataclass(frozen=True, order=True)
class Fault:
    """One finding: the file it is in, the line there (1 is the first) and what is wrong."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass
class Local:
    """A declared name, and whether anything reads it."""

    name: str
    line: int
    used: bool = False


@dataclass
class Findings:
    """What one spliced script showed, by line of the spliced text."""

    locals: list[Local] = field(default_factory=list)
    global_reads: list[tuple[str, int]] = field(default_factory=list)
    global_writes: list[tuple[str, int]] = field(default_factory=list)


def lint(folder: Path, write_keys: WriteKeys) -> list[Fault]:
    """Every fault of the scripts in the folder."""
    faults: list[Fault] = []
    shared = {path.stem: path for path in sorted((folder / "shared").glob("*.lua"))}
    scripts = sorted(folder.glob("*.lua"))
    for path in (*scripts, *shared.values()):
        faults += _lint_text(path.relative_to(folder).as_posix(), path.read_text())
    used: dict[tuple[str, int, str], bool] = {}
    included: set[str] = set()
    for path in scripts:
        try:
            lines = [replace(line, text=write_keys(line.text)) for line in splice(folder, path.stem)]
        except (FileNotFoundError, ValueError) as error:
            faults.append(Fault(path.name, 1, str(error)))
            continue
        included |= {line.file for line in lines if line.file}
        faults += _lint_script(path.name, lines, used)
    faults += [
        Fault(file, number, f"local {name} is never read")
        for (file, number, name), is_used in used.items()
        if not is_used
    ]
    faults += [
        Fault(f"shared/{name}.lua", 1, "no script includes this file")
        for name in shared
        if f"shared/{name}.lua" not in included
    ]
    return sorted(set(faults))


def text_of(lines: Iterable[Line]) -> str:
    """The script as Redis gets it."""
    return "\n".join(line.text for line in lines)


def _lint_text(file: str, text: str) -> Iterator[Fault]:
    lines = text.split("\n")
    if not _PURPOSE.match(lines[0]) or DIRECTIVE.match(lines[0]):
        yield Fault(file, 1, "opens without a comment that says what the file is for")
    for number, line in enumerate(lines, start=1):
        if len(line) > LINE_LENGTH:
            yield Fault(file, number, f"is {len(line)} characters long; {LINE_LENGTH} is the most")
        if line != line.rstrip():
            yield Fault(file, number, "ends with blanks")
        if line.startswith("--@") and not DIRECTIVE.fullmatch(line):
            yield Fault(file, number, f"{line!r} is not one of --@include, --@lazy and --@gives, with a name")


def _lint_script(file: str, lines: list[Line], used: dict[tuple[str, int, str], bool]) -> Iterator[Fault]:
    """Faults of one spliced script; notes in `used` which of its locals are read."""

    def fault(line: int, text: str) -> Fault:
        origin = lines[min(max(line, 1), len(lines)) - 1]
        return Fault(origin.file or file, origin.number or 1, text)

    source = text_of(lines)
    error = compile_error(source)
    if error is not None:
        yield fault(error[0], f"does not compile under Lua 5.1: {error[1]}")
        return
    findings = resolve(source)
    for name, line in findings.global_writes:
        yield fault(line, f"assigns the global {name}; declare it local")
    for name, line in findings.global_reads:
        yield fault(line, f"reads the global {name}, which Redis does not offer or we do not use")
    for local in findings.locals:
        origin = lines[local.line - 1]
        if origin.file is not None and not local.name.startswith("_"):
            key = (origin.file, origin.number, local.name)
            used[key] = used.get(key, False) or local.used


def compile_error(source: str) -> tuple[int, str] | None:
    """(line, what) when Lua 5.1 does not compile the source, else None. Nothing is run."""
    load = lua51.LuaRuntime(register_eval=False).globals().loadstring
    answer = load(source, "=script")
    if not isinstance(answer, tuple):
        return None
    line, _, what = str(answer[1]).removeprefix("script:").partition(": ")
    return (int(line), what) if line.isdigit() else (1, str(answer[1]))


def resolve(source: str) -> Findings:
    """Resolve every name of a script that compiles to a local or a global."""
    resolver = _Resolver()
    resolver.visit(ast.parse(source))
    return resolver.findings


class _Resolver:
    """Walks the syntax tree with a stack of scopes."""

    def __init__(self) -> None:
        self.findings = Findings()
        self._scopes: list[dict[str, Local]] = []
        self._line = 1  # not every node knows its line: the innermost one that does counts

    def visit(self, node: Any) -> None:
        if isinstance(node, list | tuple):
            for child in node:
                self.visit(child)
        elif isinstance(node, astnodes.Node):
            around = self._line
            self._line = node.line or around
            special = getattr(self, f"_visit_{type(node).__name__.lower()}", None)
            if special is not None:
                special(node)
            else:
                self.visit(list(_children(node)))
            self._line = around

    def _declare(self, name: Any) -> None:
        if isinstance(name, astnodes.Name):
            local = Local(name.id, self._line)
            self.findings.locals.append(local)
            self._scopes[-1][name.id] = local

    def _find(self, name: str) -> Local | None:
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _assign(self, target: Any) -> None:
        if not isinstance(target, astnodes.Name):
            self.visit(target)
        elif self._find(target.id) is None:
            self.findings.global_writes.append((target.id, self._line))

    def _function(self, arguments: Iterable[Any], body: Any) -> None:
        self._scopes.append({})
        for argument in arguments:
            self._declare(argument)
        self.visit(body)
        self._scopes.pop()

    def _visit_name(self, node: Any) -> None:
        local = self._find(node.id)
        if local is not None:
            local.used = True
        elif node.id not in GLOBALS:
            self.findings.global_reads.append((node.id, self._line))

    def _visit_block(self, node: Any) -> None:
        self._scopes.append({})
        self.visit(node.body)
        self._scopes.pop()

    def _visit_localassign(self, node: Any) -> None:
        self.visit(node.values)
        for target in node.targets:
            self._declare(target)

    def _visit_assign(self, node: Any) -> None:
        self.visit(node.values)
        for target in node.targets:
            self._assign(target)

    def _visit_index(self, node: Any) -> None:
        self.visit(node.value)
        if node.notation != astnodes.IndexNotation.DOT:
            self.visit(node.idx)

    def _visit_field(self, node: Any) -> None:
        self.visit(node.value)
        if node.between_brackets:
            self.visit(node.key)

    def _visit_invoke(self, node: Any) -> None:
        self.visit(node.source)
        self.visit(node.args)

    def _visit_function(self, node: Any) -> None:
        self._assign(node.name)
        self._function(node.args, node.body)

    def _visit_localfunction(self, node: Any) -> None:
        self._declare(node.name)
        self._function(node.args, node.body)

    def _visit_method(self, node: Any) -> None:
        self.visit(node.source)
        self._function((), node.body)

    def _visit_anonymousfunction(self, node: Any) -> None:
        self._function(node.args, node.body)

    def _visit_fornum(self, node: Any) -> None:
        self.visit([node.start, node.stop, node.step])
        self._function([node.target], node.body)

    def _visit_forin(self, node: Any) -> None:
        self.visit(node.iter)
        self._function(node.targets, node.body)

    def _visit_repeat(self, node: Any) -> None:
        self._scopes.append({})  # `until` sees the locals of the body
        self.visit(node.body.body)
        self.visit(node.test)
        self._scopes.pop()


def _children(node: Any) -> Iterator[Any]:
    for name, value in vars(node).items():
        if not name.startswith("_") and name != "comments":
            yield value


def main() -> int:
    faults = lint(LUA_DIR, keys.write_keys)
    for fault in faults:
        print(f"{LUA_DIR.relative_to(ROOT).as_posix()}/{fault}", file=sys.stderr)
    if not faults:
        print(f"Lua: {len(list(LUA_DIR.rglob('*.lua')))} files, no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
