"""The feeds that are followed, and what is remembered of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files
from joelclaw_tasks.handlers.feed_entries import Entry

FIRST_CHECK_ENTRIES = 5
_REMEMBERED_ENTRIES = 2_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One followed feed. `first_check` is how many entries a first check may note."""

    id: str
    url: str
    title: str | None = None
    first_check: int = FIRST_CHECK_ENTRIES


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is remembered of a feed: validators for a conditional request, hashes of entries seen.

    `seen` is None before the first check that worked; newest last.
    """

    etag: str | None = None
    last_modified: str | None = None
    seen: tuple[str, ...] | None = None

    def unseen(self, entries: list[Entry], first_check: int) -> list[Entry]:
        """The entries to note, oldest first: all new ones, or the newest few of a feed just met."""
        if self.seen is None:
            return entries[:first_check][::-1]
        known = set(self.seen)
        return [entry for entry in reversed(entries) if entry.hash not in known]


def subscriptions(data_dir: Path, wanted: str | None) -> tuple[list[Subscription], dict[str, str]]:
    """The subscriptions in subscriptions.json (all, or the one wanted), and faults by id or position.

    Raises PermanentFailure when the file is not a list, or the one wanted is not in it.
    """
    listed = files.read_json(data_dir / "subscriptions.json")
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise PermanentFailure('subscriptions.json must hold a list: [{"id": "…", "url": "https://…"}]')
    found, faults = parsed(listed)
    if wanted is None:
        return found, faults
    chosen = [subscription for subscription in found if subscription.id == wanted]
    if not chosen:
        raise PermanentFailure(f"subscriptions.json has no subscription {wanted!r}")
    return chosen, {}


def parsed(listed: list[Any]) -> tuple[list[Subscription], dict[str, str]]:
    """Subscriptions from JSON objects; a bad one becomes a fault and does not hurt the others."""
    found: dict[str, Subscription] = {}
    faults: dict[str, str] = {}
    for position, entry in enumerate(listed, 1):
        try:
            subscription = _subscription(entry)
        except ValueError as fault:
            faults[f"entry {position}"] = str(fault)
            continue
        if subscription.id in found:
            faults[f"entry {position}"] = f"the id {subscription.id!r} is used twice"
        else:
            found[subscription.id] = subscription
    return list(found.values()), faults


def _subscription(entry: Any) -> Subscription:
    if not isinstance(entry, Mapping):
        raise ValueError("a subscription must be an object with id and url")
    feed_id, url, title = entry.get("id"), entry.get("url"), entry.get("title")
    if not isinstance(feed_id, str) or not _ID.fullmatch(feed_id):
        raise ValueError("id must be 1 to 100 letters, digits, dots, dashes or underscores")
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise ValueError(f"the url of {feed_id!r} must start with http:// or https://")
    first = entry.get("first_check", FIRST_CHECK_ENTRIES)
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(f"first_check of {feed_id!r} must be a whole number of at least 0")
    return Subscription(feed_id, url, title if isinstance(title, str) else None, first)


def feed_state(data_dir: Path, subscription: Subscription) -> FeedState:
    """What is remembered of the feed; no validators when the subscription's address has changed."""
    state = files.read_document(_path(data_dir, subscription))
    if not state:
        return FeedState()
    same = state.get("url") == subscription.url
    return FeedState(
        etag=state.get("etag") if same else None,
        last_modified=state.get("last_modified") if same else None,
        seen=tuple(state["seen"]),
    )


def remember(
    data_dir: Path, subscription: Subscription, entries: list[Entry], validators: Mapping[str, str | None]
) -> None:
    """Add the entries (newest first) to those seen. Two checks at once remember what both saw."""

    def change(state: dict[str, Any]) -> None:
        current = [entry.hash for entry in reversed(entries)]
        older = [seen for seen in state.get("seen", ()) if seen not in set(current)]
        # Never forget what the feed still lists, however long it is: it would be noted again.
        kept = (
            older[-max(0, _REMEMBERED_ENTRIES - len(current)) :] if len(current) < _REMEMBERED_ENTRIES else []
        )
        state.update(id=subscription.id, url=subscription.url, **validators, seen=kept + current)

    files.update_document(_path(data_dir, subscription), change)


def _path(data_dir: Path, subscription: Subscription) -> Path:
    return data_dir / "feeds" / files.file_name(subscription.id)
