"""Check what the other tools do not read: documents, pins, and text that must not be published.

- Relative links of Markdown files lead to a file, and their anchors to a heading.
- No heading stands twice under the same heading.
- README.md has at most 200 lines.
- constraints.txt holds names, versions and hashes only.
- No file holds a path into somebody's home directory, or a secret.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 200
_LINK = re.compile(r"\[[^\]\n]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_HEADING = re.compile(r"(#{1,6}) +(.*?)#*$")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_CODE_SPAN = re.compile(r"(`+)(?:(?!\1).)*\1")
_PIN = re.compile(
    r"#.*|[a-z0-9._-]+==[\w.!+]+( ; [\w.'<>=!() ]+)?( \\)?|    --hash=sha256:[0-9a-f]{64}( \\)?"
)
_UNWANTED = {
    "a path into a home directory": re.compile(r"/(?:home|Users|root)/\w"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a key of Anthropic": re.compile(r"\bsk-ant-[\w-]{20}"),
    "a token of GitHub": re.compile(r"\b(?:gh[pousr]_\w{36}|github_pat_\w{40})"),
    "a key of AWS": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a token of Slack": re.compile(r"\bxox[abprs]-[\w-]{20}"),
    "a token of a Telegram bot": re.compile(r"\b\d{8,10}:AA[\w-]{33}\b"),
}


@dataclass(frozen=True, order=True)
class Fault:
    """One finding: the file it is in, the line there (1 is the first) and what is wrong."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def lint(root: Path, files: Iterable[Path]) -> list[Fault]:
    """Every fault of the files, which lie under `root`; binary files are passed over."""
    faults: list[Fault] = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(root).as_posix()
        faults += _unwanted(name, text)
        if path.suffix == ".md":
            faults += _links(root, path, text)
            faults += _headings(name, text)
        if name == "README.md" and (count := len(text.splitlines())) > README_LINES:
            faults.append(Fault(name, count, f"has {count} lines; {README_LINES} is the most"))
        if name == "constraints.txt":
            faults += _pins(name, text)
    return sorted(faults)


def project_files(root: Path) -> list[Path]:
    """What git has or would take; without git, everything outside hidden folders and caches."""
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    ) if (root / ".git").exists() else None  # fmt: skip
    if answer is not None and answer.returncode == 0:
        paths = [root / name for name in answer.stdout.split("\0") if name]
    else:
        paths = [
            path
            for path in root.rglob("*")
            if not any(
                part.startswith(".") or part == "__pycache__" for part in path.relative_to(root).parts[:-1]
            )
        ]
    return sorted({path for path in paths if path.is_file()})


def anchors(text: str) -> set[str]:
    """The anchors that headings of a Markdown text get: lower case, hyphens, a number when repeated."""
    found: dict[str, int] = {}
    for _, _, title in _outline(text):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, count in found.items() for n in range(count)}


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside code fences."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if fence:
            if match and match[1].startswith(fence):
                fence = ""
        elif match:
            fence = match[1]
        else:
            yield number, line


def _outline(text: str) -> Iterator[tuple[int, int, str]]:
    for number, line in _prose(text):
        if match := _HEADING.match(line):
            yield number, len(match[1]), match[2].strip()


def _headings(name: str, text: str) -> Iterator[Fault]:
    above: list[tuple[int, str]] = []
    seen: set[tuple[str, ...]] = set()
    for number, level, title in _outline(text):
        above = [(depth, other) for depth, other in above if depth < level] + [(level, title)]
        place = tuple(other for _, other in above)
        if place in seen:
            yield Fault(name, number, f"heading {title!r} stands twice in the same section")
        seen.add(place)


def _links(root: Path, path: Path, text: str) -> Iterator[Fault]:
    name = path.relative_to(root).as_posix()
    for number, line in _prose(text):
        for match in _LINK.finditer(_CODE_SPAN.sub("", line)):
            link = match[1]
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            file, _, anchor = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.is_relative_to(root):
                yield Fault(name, number, f"link {link} leads out of the repository")
            elif not target.exists():
                yield Fault(name, number, f"link {link} leads nowhere")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
                yield Fault(name, number, f"link {link}: no heading makes the anchor #{anchor}")


def _pins(name: str, text: str) -> Iterator[Fault]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not _PIN.fullmatch(line):
            yield Fault(name, number, "is neither name==version nor a hash")


def _unwanted(name: str, text: str) -> Iterator[Fault]:
    for what, pattern in _UNWANTED.items():
        for match in pattern.finditer(text):
            yield Fault(name, text.count("\n", 0, match.start()) + 1, f"holds {what}")


def main() -> int:
    files = project_files(ROOT)
    faults = lint(ROOT, files)
    if ROOT / "README.md" not in files:
        faults.append(Fault("README.md", 1, "is missing"))
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print(f"Documents: {len(files)} files, no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
