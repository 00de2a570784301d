"""Document: what a validation rule is given, a Markdown file that was read and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from joelclaw_tasks.handlers.frontmatter import Page, read_page
from joelclaw_tasks.handlers.vault import Vault


@dataclass(frozen=True)
class Document:
    """One Markdown file. `path` is relative to the folder `root`; `kind` is adr or note.

    `text` has lines that end in a newline only. What costs time is done when it is first asked for.
    """

    root: Path
    path: PurePosixPath
    kind: str
    text: str

    @cached_property
    def page(self) -> Page:
        """The frontmatter, its lines and its faults, and the body."""
        return read_page(self.text)

    @property
    def fields(self) -> dict[str, Any]:
        """The frontmatter; every scalar is text as written. Empty when there is none, or it is malformed."""
        return self.page.fields

    @property
    def body(self) -> str:
        """The text with the frontmatter blanked: its line numbers are those of the file."""
        return self.page.body

    def line_of(self, field: str) -> int:
        """The line on which a field of the frontmatter stands, from 1; 1 when it is absent."""
        return self.page.lines.get(field, 1)

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines of the body with their numbers, from 1."""
        return enumerate(self.body.split("\n"), 1)

    @cached_property
    def vault(self) -> Vault:
        """The whole folder, for rules that look at other files. Listing 10,000 files takes 0.13 s."""
        return Vault.scan(self.root)
