"""The rules that are always there, written as a module of the rules folder is (docs/watch.md)."""

from __future__ import annotations

from collections.abc import Iterator

from joelclaw_tasks.handlers import adr
from joelclaw_tasks.handlers.document import Document
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.wikilinks import check_links


def check_frontmatter(document: Document) -> Iterator[Finding]:
    """The frontmatter is closed, valid YAML, and names nothing twice."""
    yield from document.page.findings


def check_wikilinks(document: Document) -> Iterator[Finding]:
    """Wiki links lead to a file."""
    yield from check_links(document.body, document.path, document.vault)


def check_adr(document: Document) -> Iterator[Finding]:
    """Decision records: fields, status, numbers, successors, and their row in the index."""
    if document.kind == "adr":
        yield from adr.check_adr(document.page, document.path, document.vault)


def check_index(document: Document) -> Iterator[Finding]:
    """The README of a decisions folder has one row a record."""
    if document.kind == "adr" or document.path.name.lower() != "readme.md":
        return
    if adr.records(document.path.parent, document.vault):
        yield from adr.check_index(document.path, document.vault)


RULES = (check_frontmatter, check_wikilinks, check_adr, check_index)
