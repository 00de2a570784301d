"""Markdown with its code taken out: what is left is what the writer says."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

# Every part is bounded, so that a line of a million spaces costs no more than its length.
_FENCE = re.compile(r"[ \t>]{0,40}(?:(?:[-*+]|\d{1,9}[.)])[ \t]{1,4})?(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
_RUN = re.compile(r"`+")
_BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*)$", re.MULTILINE)
_SETEXT = re.compile(r"^ {0,3}(\S[^\n]*)\n {0,3}(?:=+|-{2,})[ \t]*$", re.MULTILINE)


def without_code(text: str) -> str:
    """The text with code blocks, inline code and HTML comments blanked; every line keeps its number."""
    return _without_comments(_without_spans(_without_blocks(text)))


def headings(text: str) -> list[str]:
    """The headings of a Markdown text: those with number signs, then the underlined ones."""
    text = _without_blocks(text)
    signed = [match[1].strip().rstrip("#").rstrip() for match in _HEADING.finditer(text)]
    return [heading for heading in signed if heading] + [match[1].strip() for match in _SETEXT.finditer(text)]


def _without_blocks(text: str) -> str:
    kept: list[str] = []
    fence, after_blank, in_list = "", True, False
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if fence:
            if match and match["fence"].startswith(fence) and not match["info"].strip():
                fence = ""
            kept.append("")
        elif match and not (match["fence"][0] == "`" and "`" in match["info"]):
            fence = match["fence"]
            kept.append("")
        elif after_blank and not in_list and line.startswith(("    ", "\t")):
            kept.append("")
            continue
        else:
            kept.append(line)
            if line.strip():
                # Below a list, indented text belongs to the list until something starts at the margin.
                in_list = _starts_list(line) or (in_list and line[:1].isspace())
        after_blank = not line.strip()
    return "\n".join(kept)


def _starts_list(line: str) -> bool:
    return re.match(r"\s*(?:[-*+]|\d{1,9}[.)])\s", line) is not None


def _without_comments(text: str) -> str:
    pieces, position = [], 0
    while (start := text.find("<!--", position)) >= 0:
        end = text.find("-->", start + 4)
        end = len(text) if end < 0 else end + 3
        pieces += [text[position:start], _blanked(text[start:end])]
        position = end
    return "".join([*pieces, text[position:]])


def _without_spans(text: str) -> str:
    """Blank inline code: from a run of backticks to the next as long a run of the same paragraph."""
    runs = [match.span() for match in _RUN.finditer(text)]
    starts_by_length: dict[int, list[int]] = {}
    for start, end in runs:
        starts_by_length.setdefault(end - start, []).append(start)
    breaks = [match.start() for match in _BLANK_LINE.finditer(text)]
    pieces, position = [], 0
    for start, end in runs:
        if start < position:
            continue
        opening = start + 1 if _escaped_at(text, start) else start
        same = starts_by_length.get(end - opening, [])
        following = bisect_right(same, start)
        if opening == end or following == len(same):
            continue
        closing = same[following]
        if bisect_left(breaks, closing) != bisect_left(breaks, opening):
            continue
        stop = closing + end - opening
        pieces += [text[position:opening], _blanked(text[opening:stop])]
        position = stop
    return "".join([*pieces, text[position:]])


def _escaped_at(text: str, position: int) -> bool:
    slashes = 0
    while position > slashes and text[position - slashes - 1] == "\\":
        slashes += 1
    return slashes % 2 == 1


def _blanked(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
