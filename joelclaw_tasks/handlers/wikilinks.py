"""Wiki links: `[[target]]`, `[[target|alias]]`, `[[target#heading]]`, and where they lead."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.frontmatter import read_page
from joelclaw_tasks.handlers.prose import headings, without_code
from joelclaw_tasks.handlers.vault import MARKDOWN, Vault, linkable, same_name

_LINK = re.compile(r"(?<!\\)\[\[([^\[\]\n]{1,500})\]\]")


@dataclass(frozen=True, slots=True)
class WikiLink:
    """One link as written. An empty target means the page itself."""

    target: str
    heading: str | None
    alias: str | None
    line: int


def wiki_links(prose: str) -> Iterator[WikiLink]:
    """The links of a text that has been through without_code; directives (`[[toc:]]`) are passed over."""
    line, counted = 1, 0
    for match in _LINK.finditer(prose):
        line += prose.count("\n", counted, match.start())
        counted = match.start()
        # In a table the bar is written \| so that it does not end the cell.
        place, _, alias = match[1].replace("\\|", "|").partition("|")
        target, _, heading = place.partition("#")
        target, heading = target.strip(), heading.strip()
        if ":" in target or not (target or heading):
            continue
        yield WikiLink(target, heading or None, alias.strip() or None, line)


def resolve(target: str, source: PurePosixPath, vault: Vault) -> list[PurePosixPath]:
    """The files that a target may mean, seen from `source`: none is broken, several ambiguous.

    A path from the root, or from the source folder (`./`, `../`), is exact; else it is the end of a path.
    """
    wanted = same_name(target.replace("\\", "/"))
    if wanted.startswith(("./", "../")):
        wanted = _joined(source.parent, wanted)
        return [path for path in _candidates(wanted, vault) if _is(path, wanted)]
    wanted = wanted.strip("/")
    candidates = _candidates(wanted, vault)
    exact = [path for path in candidates if _is(path, wanted)]
    return exact or [path for path in candidates if _ends_with(path, wanted)]


def check_links(body: str, source: PurePosixPath, vault: Vault) -> Iterator[Finding]:
    """Findings for links that are broken or ambiguous, and for headings that are not there."""
    read: dict[PurePosixPath, set[str]] = {source: _heading_names(body)}
    for link in wiki_links(without_code(body)):
        shown = one_line(link.target, 80)
        found = resolve(link.target, source, vault) if link.target else [source]
        if not found:
            yield Finding(link.line, "link.broken", f"[[{shown}]] leads nowhere")
        elif len(found) > 1:
            places = ", ".join(str(path) for path in found[:3])
            yield Finding(link.line, "link.ambiguous", f"[[{shown}]] may mean {places}; write the folder too")
        elif link.heading and not link.heading.startswith("^") and found[0].suffix.lower() in MARKDOWN:
            if found[0] not in read:
                read[found[0]] = _heading_names(read_page(vault.read(found[0]) or "").body)
            if _heading_name(link.heading.split("#")[-1]) not in read[found[0]]:
                wanted = one_line(link.heading, 80)
                yield Finding(link.line, "link.heading", f"{found[0]} has no heading “{wanted}”", "warning")


def _candidates(wanted: str, vault: Vault) -> tuple[PurePosixPath, ...]:
    return vault.named.get(wanted.rpartition("/")[2], ())


def _is(path: PurePosixPath, wanted: str) -> bool:
    return wanted in (same_name(str(path)), same_name(str(linkable(path))))


def _ends_with(path: PurePosixPath, wanted: str) -> bool:
    return f"/{same_name(str(path))}".endswith(f"/{wanted}") or f"/{same_name(str(linkable(path)))}".endswith(
        f"/{wanted}"
    )


def _joined(folder: PurePosixPath, wanted: str) -> str:
    parts = [same_name(part) for part in folder.parts]
    for part in wanted.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts)


def _heading_names(body: str) -> set[str]:
    return {_heading_name(heading) for heading in headings(body)}


def _heading_name(heading: str) -> str:
    """A heading as links compare it: letters and digits only, any case."""
    return "".join(char for char in unicodedata.normalize("NFC", heading).casefold() if char.isalnum())
