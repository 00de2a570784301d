"""RSS and Atom: from the bytes of a feed to its entries."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import feedparser

from joelclaw_tasks.errors import FetchFailed
from joelclaw_tasks.handlers.fields import one_line


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `hash` is its identity: of its id (guid), else its link, else its words."""

    hash: str
    title: str | None
    url: str | None
    published_at: str | None


@dataclass(frozen=True, slots=True)
class Feed:
    """A parsed feed, entries newest first. `warning` says what was malformed, if anything."""

    title: str | None
    entries: list[Entry]
    warning: str | None = None


def parse_feed(body: bytes, *, url: str, content_type: str | None) -> Feed:
    """Read RSS or Atom; `url` is where it came from, for relative links.

    A malformed feed whose entries can still be read is read, with a warning.
    Raises FetchFailed when it is no feed at all.
    """
    headers = {"content-location": url}
    if content_type:
        headers["content-type"] = content_type
    # As a stream, since feedparser takes plain bytes for the name of a file to open.
    try:
        document: Any = feedparser.parse(io.BytesIO(body), response_headers=headers)
    except Exception as error:  # noqa: BLE001 - its parsers raise many kinds on hostile bytes
        raise FetchFailed(f"the feed cannot be parsed ({type(error).__name__})") from None
    fault = document.get("bozo_exception") if document.get("bozo") else None
    if not document.entries and not document.version:
        page = re.match(rb"\s*(<!doctype html|<html)", body[:500], re.IGNORECASE)
        raise FetchFailed(
            "the server sent a web page, not a feed" if page else "the answer is not RSS or Atom"
        )
    malformed = fault is not None and not isinstance(fault, _HARMLESS)
    if malformed and not document.entries:
        raise FetchFailed(f"the feed is malformed XML: {one_line(str(fault), 150)}")
    dated = [(_when(entry), entry) for entry in document.entries]
    if all(when for when, _ in dated):
        dated.sort(key=lambda pair: pair[0], reverse=True)
    entries = list({entry.hash: entry for _, raw in dated if (entry := _entry(raw))}.values())
    warning = f"the feed is malformed XML: {one_line(str(fault), 150)}" if malformed else None
    return Feed(_text(document.feed, "title"), entries, warning)


_HARMLESS = (feedparser.CharacterEncodingOverride, feedparser.NonXMLContentType)


def _entry(raw: Mapping[str, Any]) -> Entry | None:
    link = raw.get("link")
    url = link if isinstance(link, str) and link.strip() else None
    title = _text(raw, "title")
    identity = (
        raw.get("id") or url or "\n".join(filter(None, (title, _text(raw, "summary"), raw.get("published"))))
    )
    if not identity:
        return None
    digest = hashlib.sha256(str(identity).encode("utf-8", "replace")).hexdigest()[:16]
    when = _when(raw)
    published_at = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*when[:6]) if when else None
    return Entry(digest, title, url, published_at)


def _when(raw: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(raw.get("published_parsed") or raw.get("updated_parsed") or ())


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    if not isinstance(value, str):
        return None
    if "html" in str((raw.get(f"{name}_detail") or {}).get("type")):
        value = html.unescape(re.sub(r"</?[A-Za-z][^<>]{0,300}>", "", value))
    return one_line(value) or None
