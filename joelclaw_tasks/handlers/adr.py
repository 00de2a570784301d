"""Architecture decision records: frontmatter, numbering, statuses, and their place in the index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from joelclaw_tasks.handlers.adr_index import IndexRow, index_path, index_rows
from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.frontmatter import Page, read_page
from joelclaw_tasks.handlers.prose import headings
from joelclaw_tasks.handlers.vault import MARKDOWN, Vault

STATUSES = ("proposed", "accepted", "shipped", "superseded", "deprecated", "rejected")
REQUIRED = ("status", "date")
FOLDERS = frozenset({"decisions", "adr", "adrs"})
_CANONICAL = re.compile(r"(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md")
_DATED = re.compile(r"\d{4}-\d{2}(-\d{2})?[-.]")  # a daily note is no decision
_NUMBER = re.compile(r"^(\d{4})-")
_TITLE_NUMBER = re.compile(r"^(?:ADR[-\s#]*(\d{1,4})\b|(\d{1,4})\s*[.:–—]\s|(\d{4})\s+-\s)", re.IGNORECASE)
_REFERENCE = re.compile(
    r"\[*(?:.*/)?(?:ADR[-\s#]*)?(\d{1,4})(-[\w.-]+?)?(?:\.md)?(?:[|#].*)?\]*", re.IGNORECASE
)
_SUPERSEDED_BY = ("superseded-by", "superseded_by", "supersededBy")
_NOT_RECORDS = frozenset({"readme", "index", "template", "0000-template", "adr-template"})


def is_adr(path: PurePosixPath) -> bool:
    """Whether the file is a decision record: in a decisions folder, or named like one."""
    if path.suffix.lower() not in MARKDOWN or path.stem.lower() in _NOT_RECORDS:
        return False
    if path.parent.name.lower() in FOLDERS:
        return True
    return bool(_CANONICAL.fullmatch(path.name)) and not _DATED.match(path.name)


def records(folder: PurePosixPath, vault: Vault) -> list[PurePosixPath]:
    """The decision records of one folder."""
    return [path for path in vault.folder(folder) if is_adr(path)]


def check_adr(page: Page, path: PurePosixPath, vault: Vault) -> Iterator[Finding]:
    """All findings of one record, given the folder that it lives in."""
    canonical = _CANONICAL.fullmatch(path.name)
    if canonical is None:
        yield Finding(
            1, "adr.filename", f"{path.name} must be named with four digits, a dash and a lower-case slug"
        )
    siblings = [other for other in records(path.parent, vault) if other != path]
    number = canonical[1] if canonical else None
    for other in siblings:
        if number is not None and other.name.startswith(f"{number}-"):
            yield Finding(1, "adr.duplicate-number", f"the number {number} is also that of {other.name}")
    malformed = any(
        finding.rule in ("frontmatter.malformed", "frontmatter.too-large") for finding in page.findings
    )
    if not malformed:
        yield from _check_fields(page)
        yield from _check_superseded(page, path, siblings)
    if number is not None:
        yield from _check_numbers(page, number)
    yield from _check_index(page, path, vault)


def check_index(path: PurePosixPath, vault: Vault) -> Iterator[Finding]:
    """Findings of an index page itself: records without a row, rows without a record."""
    present = records(path.parent, vault)
    names = {record.name for record in present}
    rows = index_rows(vault.read(path) or "")
    listed = {row.name for row in rows}
    for record in present:
        if record.name not in listed:
            yield Finding(1, "adr.index-missing", f"the index has no row for {record.name}")
    for row in rows:
        if row.name not in names:
            yield Finding(
                row.line,
                "adr.index-stale",
                f"the index has a row for {one_line(row.name, 80)}, which does not exist",
            )
    for record in present:
        page = read_page((vault.read(record) or "").replace("\r\n", "\n"))
        for row in rows:
            if row.name == record.name:
                yield from _check_row(page, row, record, row.line)


def title_of(page: Page) -> str:
    """The title: the field, else the first heading; empty when there is neither."""
    return page.text("title") or next(iter(headings(page.body)), "")


def _check_fields(page: Page) -> Iterator[Finding]:
    if not page.has_frontmatter:
        yield Finding(1, "adr.frontmatter", f"a decision starts with frontmatter: {', '.join(REQUIRED)}")
        return
    for name in REQUIRED:
        if name not in page.fields or page.fields[name] in ("", [], {}, "null", "~"):
            yield Finding(page.lines.get(name, 1), "adr.field-missing", f"the field {name} is required")
    if not title_of(page):
        yield Finding(1, "adr.field-missing", "a title is required: the field title, or a heading")
    status = page.fields.get("status")
    if status not in (None, "", [], {}, "null", "~", *STATUSES):
        hint = next((word for word in STATUSES if str(status).strip().lower().startswith(word)), None)
        advice = f"write {hint}" if hint else f"use one of {', '.join(STATUSES)}"
        shown = one_line(str(status), 60)
        yield Finding(page.lines.get("status", 1), "adr.status", f"the status “{shown}” is unknown; {advice}")
    written = page.text("date")
    if written and not _is_date(written):
        yield Finding(page.lines.get("date", 1), "adr.date", "the date must be YYYY-MM-DD", "warning")


def _check_superseded(page: Page, path: PurePosixPath, siblings: list[PurePosixPath]) -> Iterator[Finding]:
    field = next((name for name in _SUPERSEDED_BY if name in page.fields), None)
    targets = list(_flat(page.fields.get(field))) if field else []
    line = page.lines.get(field or "status", 1)
    superseded = page.text("status") == "superseded"
    if superseded and not targets:
        yield Finding(
            line, "adr.superseded-by", "a superseded decision must name its successor in superseded-by"
        )
    if targets and not superseded:
        yield Finding(
            line, "adr.superseded-by", "superseded-by is given, but the status is not superseded", "warning"
        )
    for target in targets:
        reference = _REFERENCE.fullmatch(target)
        number = reference[1].zfill(4) if reference else None
        slug = (reference[2] or "").removesuffix(".md") if reference else ""
        shown = one_line(target, 80)
        if (
            number is not None
            and path.name.startswith(f"{number}-")
            and (not slug or path.stem == number + slug)
        ):
            yield Finding(line, "adr.superseded-by", "a decision cannot be superseded by itself")
        elif number is None or not any(
            other.stem == number + slug if slug else other.name.startswith(f"{number}-") for other in siblings
        ):
            yield Finding(
                line, "adr.superseded-by", f"superseded-by names {shown}, which does not exist here"
            )


def _check_numbers(page: Page, number: str) -> Iterator[Finding]:
    for name in ("number", "adr", "id"):
        written = re.fullmatch(r"(?:ADR[-\s#]*)?(\d{1,4})", page.text(name), re.IGNORECASE)
        if written and int(written[1]) != int(number):
            message = f"{name} says {written[1]}, the file name {number}"
            yield Finding(page.lines.get(name, 1), "adr.number", message)
    titles = [page.text("title"), *headings(page.body)[:1]]
    for title in dict.fromkeys(titles):
        match = _TITLE_NUMBER.match(title)
        written_number = next((group for group in match.groups() if group), None) if match else None
        if written_number is not None and int(written_number) != int(number):
            yield Finding(
                page.lines.get("title", 1),
                "adr.number",
                f"the title says {written_number}, the file name {number}",
            )


def _check_index(page: Page, path: PurePosixPath, vault: Vault) -> Iterator[Finding]:
    index = index_path(path.parent, vault)
    if index is None:
        yield Finding(
            1, "adr.index-absent", "the folder has no README.md that lists its decisions", "warning"
        )
        return
    rows = [row for row in index_rows(vault.read(index) or "") if row.name == path.name]
    if not rows:
        yield Finding(1, "adr.index-missing", f"{index.name} has no row for this decision")
    for row in rows:
        yield from _check_row(page, row, path, 1)


def _check_row(page: Page, row: IndexRow, path: PurePosixPath, line: int) -> Iterator[Finding]:
    number = _NUMBER.match(path.name)
    where = f"line {row.line} of the index, {path.name}:"
    if number and row.number is not None and int(row.number) != int(number[1]):
        yield Finding(line, "adr.index-mismatch", f"{where} the row says number {row.number}")
    status = page.text("status")
    if row.status and status and row.status.casefold() != status.casefold():
        shown = one_line(row.status, 40)
        yield Finding(
            line, "adr.index-mismatch", f"{where} the row says {shown}, the decision {one_line(status, 40)}"
        )
    title = _bare(title_of(page))
    if row.title and title and _bare(row.title) != title:
        yield Finding(line, "adr.index-mismatch", f"{where} the row has another title", "warning")


def _bare(title: str) -> str:
    """A title as the index is compared with it: no number, letters and digits only, any case."""
    return "".join(char for char in _TITLE_NUMBER.sub("", title).casefold() if char.isalnum())


def _flat(value: Any, depth: int = 4) -> Iterator[str]:
    """The texts in a field: one, or a list (`[[0012-x]]` without quotes is a list in a list)."""
    if isinstance(value, str):
        if value.strip() not in ("", "null", "~"):
            yield value.strip()[:300]
    elif isinstance(value, list) and depth:
        for part in value[:50]:
            yield from _flat(part, depth - 1)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True
