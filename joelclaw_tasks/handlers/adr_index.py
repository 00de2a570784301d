"""The README of a decisions folder: one row a decision, in a table or a list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from joelclaw_tasks.handlers.prose import without_code
from joelclaw_tasks.handlers.vault import Vault

_TARGET = re.compile(
    r"\]\(\s*<?(?:\./)?(\d{4}-[^()\s<>#/]{1,200}\.md)[^()\n]{0,200}\)|\[\[(\d{4}-[^\[\]|#\\\n/]{1,200})"
)
_LINK_TEXT = re.compile(
    r"\[([^\[\]\n]{0,300})\]\([^()\n]{0,500}\)|\[\[[^\[\]|\n]{0,300}(?:\|([^\[\]\n]{0,300}))?\]\]"
)
_RULE = re.compile(r"^\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One row: the file it links to, and what it says of it; None where it says nothing."""

    line: int
    name: str
    number: str | None = None
    title: str | None = None
    status: str | None = None


def index_path(folder: PurePosixPath, vault: Vault) -> PurePosixPath | None:
    """The folder's README, if it has one."""
    return next((path for path in vault.folder(folder) if path.name.lower() == "readme.md"), None)


def index_rows(text: str) -> list[IndexRow]:
    """Every line that links to a decision of the same folder; table columns are read by their heads."""
    rows: list[IndexRow] = []
    heads: list[str] = []
    previous = ""
    for number, line in enumerate(without_code(text.replace("\r\n", "\n")).split("\n"), 1):
        if "|" in previous and "-" in line and len(line) < 2_000 and _RULE.match(line):
            heads = [cell.casefold() for cell in _cells(previous)]
        elif "|" not in line:
            heads = []
        target = _TARGET.search(line)
        if target:
            name = unquote(target[1]) if target[1] else target[2].strip().removesuffix(".md") + ".md"
            row = dict(zip(heads, _cells(line), strict=False)) if heads else {}
            rows.append(
                IndexRow(
                    number,
                    name,
                    _number(row, line),
                    _column(row, "title", "decision"),
                    _column(row, "status"),
                )
            )
        previous = line
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in _CELL.split(line.strip().removeprefix("|").removesuffix("|"))]


def _column(row: dict[str, str], *names: str) -> str | None:
    for name in names:
        if row.get(name):
            return _shown(row[name]) or None
    return None


def _number(row: dict[str, str], line: str) -> str | None:
    """The number that a row shows: in its number column, else as `ADR-0012` in the text of its link."""
    for name in ("adr", "number", "no.", "no", "#", "id"):
        if name in row and (match := re.search(r"\b(\d{1,4})\b", _shown(row[name]))):
            return match[1]
    match = re.search(r"\bADR[-\s#]*(\d{1,4})\b", _shown(line), re.IGNORECASE)
    return match[1] if match else None


def _shown(cell: str) -> str:
    """A cell as a reader sees it: the text of its links, no emphasis."""
    return re.sub(r"[*_`]", "", _LINK_TEXT.sub(lambda link: link[1] or link[2] or "", cell)).strip()
