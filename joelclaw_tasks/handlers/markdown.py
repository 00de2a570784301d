"""Putting text from outside into Markdown so that it stays text."""

from __future__ import annotations

import re

from joelclaw_tasks.handlers.fields import one_line

# Doubled = and % are Obsidian's highlight and comment; // and www. would become links by themselves.
_SPECIAL = re.compile(r"[\\`*_\[\]|~#^$@]|=(?==)|%(?=%)|(?<=:)//|(?<=www)\.", re.IGNORECASE)
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escaped(text: str, limit: int = 300) -> str:
    """`text` for use inside a line, shown as it is: no link, tag, emphasis, table or comment comes of it."""
    line = _SPECIAL.sub(lambda match: "\\" + match[0], one_line(text, limit))
    return re.sub(r"[&<>]", lambda match: _HTML[match[0]], line)


def link(text: str, url: str, limit: int = 200) -> str:
    """A Markdown link to a normalised URL."""
    # An entity in the target would be decoded by the reader, and change the address.
    return f"[{escaped(text, limit)}](<{re.sub(r'&(?=#?[A-Za-z0-9]+;)', '&amp;', url)}>)"
