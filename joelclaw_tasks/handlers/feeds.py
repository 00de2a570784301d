"""subscription/check-feeds.requested: what is new in the feeds that we follow."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import EventRefused, FetchFailed, PermanentFailure
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.handlers.feed_entries import Entry, Feed, parse_feed
from joelclaw_tasks.handlers.fetch import fetch
from joelclaw_tasks.handlers.fields import optional_text
from joelclaw_tasks.handlers.subscriptions import Subscription, feed_state, parsed, remember, subscriptions
from joelclaw_tasks.handlers.urls import normalise

_AT_ONCE = 8
_ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1"


def check(event: Event, deps: Deps) -> dict[str, Any]:
    """Fetch the feeds and emit discovery/noted for every entry that is new.

    When: hourly by beat, or on request (one by `subscriptionId`, or those given in `feeds`).
    What: conditional requests; a feed met for the first time notes only its newest few; one bad feed is
        reported and does not stop the others.
    Idempotent because: each emitted event is named after feed and entry, and an entry counts as seen only
        after it was emitted.

    Raises FetchFailed when every feed failed, so that the job is retried.
    """
    wanted, faults = _wanted(event.data, deps)
    anew = event.data.get("forceAll") is True
    reports: dict[str, dict[str, Any]] = {key: {"ok": False, "error": fault} for key, fault in faults.items()}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="feeds") as pool:
        fetched = [(each, pool.submit(_fetch, each, deps, anew)) for each in wanted]
        try:
            for subscription, future in fetched:
                reports[subscription.id] = _note(subscription, future, deps)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    failed = {key: str(report["error"]) for key, report in reports.items() if not report["ok"]}
    if wanted and len(failed) == len(reports):
        raise FetchFailed(
            "no feed could be read: " + "; ".join(f"{key}: {why}" for key, why in failed.items())
        )
    return {
        "checked": len(reports), "failed": len(failed), "feeds": reports,
        "noted": sum(report.get("noted", 0) for report in reports.values()),
    }  # fmt: skip


def _wanted(data: Mapping[str, Any], deps: Deps) -> tuple[list[Subscription], dict[str, str]]:
    given = data.get("feeds")
    if given is None:
        return subscriptions(deps.data_dir, optional_text(data, "subscriptionId"))
    if not isinstance(given, list):
        raise PermanentFailure('data.feeds must be a list: [{"id": "…", "url": "https://…"}]')
    return parsed(given)


def _fetch(subscription: Subscription, deps: Deps, anew: bool) -> tuple[Feed, dict[str, str | None]] | None:
    """The feed and its validators; None when it has not changed. Raises FetchFailed."""
    state = feed_state(deps.data_dir, subscription)
    headers = {"Accept": _ACCEPT}
    if state.etag and not anew:
        headers["If-None-Match"] = state.etag
    if state.last_modified and not anew:
        headers["If-Modified-Since"] = state.last_modified
    answer = fetch(deps.http, subscription.url, headers=headers)
    if answer.status == 304:
        return None
    feed = parse_feed(answer.body, url=answer.url, content_type=answer.headers.get("content-type"))
    validators = {"etag": answer.headers.get("etag"), "last_modified": answer.headers.get("last-modified")}
    if feed.warning:
        # Ask for the whole of it again, since an entry may have been cut off.
        validators = dict.fromkeys(validators)
    return feed, validators


def _note(
    subscription: Subscription, future: Future[tuple[Feed, dict[str, str | None]] | None], deps: Deps
) -> dict[str, Any]:
    try:
        answer = future.result()
    except FetchFailed as fault:
        return {"ok": False, "error": str(fault)}
    if answer is None:
        return {"ok": True, "unchanged": True, "noted": 0}
    feed, validators = answer
    new = feed_state(deps.data_dir, subscription).unseen(feed.entries, subscription.first_check)
    report: dict[str, Any] = {"ok": True, "entries": len(feed.entries), "noted": 0, "skipped": 0}
    for entry in new:
        report["noted" if _emit(subscription, feed, entry, deps) else "skipped"] += 1
    # Only now: a crash before this line emits the same ids again, which is harmless.
    remember(deps.data_dir, subscription, feed.entries, validators)
    return report | ({"warning": feed.warning} if feed.warning else {})


def _emit(subscription: Subscription, feed: Feed, entry: Entry, deps: Deps) -> bool:
    """Emit the entry; False when it has no link that could be noted, or the event was refused."""
    try:
        normalise(entry.url or "")
        data = {
            "url": entry.url,
            "title": entry.title,
            "context": f"From {subscription.title or feed.title or subscription.id}",
            "publishedAt": entry.published_at,
            "subscriptionId": subscription.id,
        }
        deps.emit(
            "discovery/noted",
            {name: value for name, value in data.items() if value is not None},
            id=f"subscription:{subscription.id}:{entry.hash}",
            source=f"subscription/{subscription.id}",
        )
    except (ValueError, EventRefused):
        return False
    return True
