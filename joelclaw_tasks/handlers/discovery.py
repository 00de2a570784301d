"""discovery/noted and discovery/captured: from a link somebody saw to a line in the day's note."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files, markdown
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.handlers.fields import optional_text, required_text
from joelclaw_tasks.handlers.urls import host_of, normalise

_CONTEXT_LIMIT = 500
_REMEMBERED_EVENTS = 20


def note(event: Event, deps: Deps) -> dict[str, Any]:
    """Store what was found under its normalised URL and pass it on to be written down.

    When: somebody, or a feed, noted a URL (or a thought without one).
    What: one JSON document a find, whatever the spelling of the URL; emits discovery/captured.
    Idempotent because: the find and the emitted event are both named after the hash of the URL; it is stored
        before it is emitted, and emitted anew until the note holds it.
    """
    url = _url(event.data)
    title, context = optional_text(event.data, "title"), optional_text(event.data, "context", _CONTEXT_LIMIT)
    if url is None and context is None:
        raise PermanentFailure("data.url is required (or data.context, for a find without a link)")
    find_id = hashlib.sha256((url or f"text:{context}").encode()).hexdigest()[:16]

    def store(find: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        known = bool(find)
        if not known:
            find.update(id=find_id, url=url, first_event=event.id, first_at_ms=event.at_ms, events=[])
        for name, text in (("title", title), ("context", context)):
            if text and not find.get(name):
                find[name] = text
        if event.id not in find["events"]:
            find["events"] = [*find["events"], event.id][-_REMEMBERED_EVENTS:]
        return known and find["first_event"] != event.id, dict(find)

    path = _find_path(deps.data_dir, find_id)
    duplicate, find = files.update_document(path, store)
    captured = "note" in find
    if not captured:
        deps.emit("discovery/captured", _captured(find), id=f"discovery:{find_id}", source="discovery/noted")
    return {"find_id": find_id, "url": url, "duplicate": duplicate, "emitted": not captured}


def capture(event: Event, deps: Deps) -> dict[str, Any]:
    """Append the find to the note of the day on which it was captured (UTC).

    When: discovery/noted stored a new find, or another service captured one.
    What: one line in notes/YYYY-MM-DD.md; text from outside is escaped.
    Idempotent because: every line ends in a marker with the find's id, and the find remembers its note.
    """
    url = _url(event.data)
    title = optional_text(event.data, "title")
    context = optional_text(event.data, "context", _CONTEXT_LIMIT)
    find_id = (
        optional_text(event.data, "findId")
        or hashlib.sha256((url or required_text(event.data, "slug")).encode()).hexdigest()[:16]
    )
    shown = title or context or url or required_text(event.data, "slug")
    line = (
        markdown.link(shown, url) + f" ({markdown.escaped(host_of(url))})"
        if url
        else markdown.escaped(shown, 200)
    )
    if context and context != shown:
        line += f": {markdown.escaped(context, _CONTEXT_LIMIT)}"
    moment = datetime.fromtimestamp(event.at_ms / 1000, UTC)
    note_path = deps.data_dir / "notes" / f"{moment:%Y-%m-%d}.md"

    def write_down(find: dict[str, Any]) -> tuple[bool, str]:
        if "note" in find:
            return False, str(find["note"])
        appended = _append_once(note_path, moment, line, find_id)
        if not find:
            find.update(id=find_id, url=url, first_event=event.id, first_at_ms=event.at_ms, events=[event.id])
        find["note"] = f"notes/{note_path.name}"
        return appended, find["note"]

    appended, noted_in = files.update_document(_find_path(deps.data_dir, find_id), write_down)
    return {"find_id": find_id, "note": noted_in, "appended": appended}


def _url(data: dict[str, Any]) -> str | None:
    value = data.get("url")
    if value is None:
        return None
    if not isinstance(value, str):
        raise PermanentFailure("data.url must be text")
    try:
        return normalise(value)
    except ValueError as fault:
        raise PermanentFailure(f"data.url: {fault}") from None


def _find_path(data_dir: Path, find_id: str) -> Path:
    return data_dir / "discoveries" / files.file_name(find_id)


def _captured(find: dict[str, Any]) -> dict[str, Any]:
    """The data of discovery/captured; vaultPath, topic and slug are what joelclaw's own listeners read."""
    shown = find.get("title") or find.get("context") or find["url"]
    slug = files.file_name(shown, suffix="")
    data = {"findId": find["id"], "vaultPath": f"discoveries/{files.file_name(find['id'])}"}
    data |= {"topic": host_of(find["url"]) if find["url"] else "thought", "slug": slug}
    return data | {name: find[name] for name in ("url", "title", "context") if find.get(name)}


def _append_once(path: Path, moment: datetime, line: str, find_id: str) -> bool:
    # Escaped text holds no `<`, so only this function can write a marker. It comes last: an entry
    # torn by a crash lacks it and is written again.
    marker = f"<!-- find:{files.file_name(find_id, suffix='')} -->"
    with files.exclusive(path):
        text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
        if marker in text:
            return False
        header = (
            f"---\ndate: {moment:%Y-%m-%d}\ntype: daily-note\n---\n\n# {moment:%Y-%m-%d}\n\n"
            if not text
            else ""
        )
        files.append_whole(path, f"{header}- {moment:%H:%M} {line} {marker}\n".encode())
    return True
