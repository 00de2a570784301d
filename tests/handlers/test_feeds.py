"""Feeds from a real server: what is new is noted once, and one bad feed harms no other."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import EventRefused, FetchFailed, PermanentFailure
from joelclaw_tasks.handlers.feed_entries import parse_feed
from joelclaw_tasks.handlers.feeds import check
from joelclaw_tasks.handlers.fetch import fetch
from joelclaw_tasks.handlers.world import World
from tests.handlers.conftest import Recorder, Site

Check = Callable[..., dict[str, Any]]


def rss(*numbers: int, link: str = "https://example.com/{}") -> bytes:
    entries = "".join(
        f"<item><title>Entry {n}</title><link>{link.format(n)}</link><guid isPermaLink='false'>g{n}</guid>"
        f"<pubDate>Sun, {n % 28 + 1:02} Feb 2026 10:00:00 GMT</pubDate></item>"
        for n in numbers
    )
    channel = f"<channel><title>Blog</title>{entries}</channel>"
    return f"<?xml version='1.0'?><rss version='2.0'>{channel}</rss>".encode()


ATOM = b"""<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom"><title>Atom blog</title>
<entry><id>urn:1</id><title type="html">One &lt;b&gt;bold&lt;/b&gt; &amp;amp; co</title><link href="/one"/>
<updated>2026-02-01T10:00:00Z</updated></entry></feed>"""


@pytest.fixture
def subscribe(tmp_path: Path) -> Callable[..., None]:
    def subscribe(**urls: str) -> None:
        listed = [{"id": feed_id, "url": url} for feed_id, url in urls.items()]
        (tmp_path / "subscriptions.json").write_text(json.dumps(listed))

    return subscribe


@pytest.fixture
def run(world: World, event: Callable[..., Event]) -> Check:
    return lambda **data: check(event("subscription/check-feeds.requested", data), world)


def _ids(recorder: Recorder) -> list[str]:
    return [emitted["id"] for emitted in recorder.emitted]


def _titles(recorder: Recorder) -> list[str]:
    return [emitted["data"]["title"] for emitted in recorder.emitted]


def test_a_feed_met_for_the_first_time_notes_its_newest_five_oldest_first(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(blog=site.serve("/rss", rss(3, 9, 1, 2, 4, 8, 5, 7, 6)))

    result = run()

    assert [f"Entry {n}" for n in (5, 6, 7, 8, 9)] == _titles(recorder)
    assert {"checked": 1, "failed": 0, "noted": 5} == {
        name: result[name] for name in ("checked", "failed", "noted")
    }
    first = recorder.emitted[0]
    assert "discovery/noted" == first["name"]
    assert first["id"].startswith("subscription:blog:")
    assert {
        "url": "https://example.com/5", "title": "Entry 5", "context": "From Blog", "subscriptionId": "blog",
        "publishedAt": "2026-02-06T10:00:00Z",
    } == first["data"]  # fmt: skip


def test_later_checks_note_only_what_is_new_even_when_a_link_or_the_order_changes(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(blog=site.serve("/rss", rss(*range(1, 8))))
    run()
    recorder.emitted.clear()
    site.serve("/rss", rss(*range(9, 0, -1), link="https://moved.example/{}"))

    assert 2 == run()["noted"]
    assert ["Entry 8", "Entry 9"] == _titles(recorder)
    assert 0 == run()["noted"]


def test_requests_are_conditional_and_forced_ones_are_not(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    validators = {"ETag": '"v1"', "Last-Modified": "Sun, 01 Feb 2026 10:00:00 GMT"}
    subscribe(blog=site.serve("/rss", rss(1), headers=validators))
    run()
    site.serve("/rss", b"", status=304)

    result = run()

    assert {"ok": True, "unchanged": True, "noted": 0} == result["feeds"]["blog"]
    sent = site.requests[-1][1]
    assert ('"v1"', validators["Last-Modified"]) == (sent["if-none-match"], sent["if-modified-since"])
    site.serve("/rss", rss(1), headers=validators)
    run(forceAll=True)
    assert "if-none-match" not in site.requests[-1][1]
    assert 1 == len(recorder.emitted)


def test_a_subscription_that_moves_asks_anew_and_notes_nothing_twice(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(blog=site.serve("/old", rss(1), headers={"ETag": '"v1"'}))
    run()
    subscribe(blog=site.serve("/new", rss(1, 2)))

    assert 1 == run()["noted"]
    assert "if-none-match" not in site.requests[-1][1]


def test_atom_is_read_with_relative_links_and_plain_titles(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(atom=site.serve("/feeds/atom.xml", ATOM, headers={"Content-Type": "application/atom+xml"}))
    run()

    (emitted,) = recorder.emitted
    assert (site.url + "/one", "One bold & co") == (emitted["data"]["url"], emitted["data"]["title"])


def test_one_bad_feed_is_reported_and_does_not_stop_the_others(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder, free_url: str
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(160):
            handler.wfile.write(b" " * 65_536)

    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(rss(1))

    site.answers |= {"/endless": endless, "/cut": cut}
    bomb = gzip.compress(b" " * 20_000_000)
    subscribe(
        error=site.serve("/error", b"oops", status=500),
        page=site.serve(
            "/page", b"<!DOCTYPE html><html><body>Hi</body></html>", headers={"Content-Type": "text/html"}
        ),
        malformed=site.serve("/malformed", b"<rss version='2.0'><channel><title>x</tit"),
        noise=site.serve("/noise", bytes(range(256)) * 40),
        path=site.serve("/path", b"/etc/passwd"),
        large=f"{site.url}/endless",
        bomb=site.serve("/bomb", bomb, headers={"Content-Encoding": "gzip"}),
        loop=site.serve("/loop", b"", status=302, headers={"Location": "/loop"}),
        away=site.serve("/away", b"", status=302, headers={"Location": "file:///etc/passwd"}),
        cut=f"{site.url}/cut",
        closed=free_url,
        good=site.serve("/good", rss(1)),
    )

    result = run()

    errors = {key: report.get("error") for key, report in result["feeds"].items()}
    assert {
        "error": "the server answered 500 Internal Server Error",
        "page": "the server sent a web page, not a feed",
        "large": "the answer is larger than 5,000,000 bytes",
        "bomb": "the answer is larger than 5,000,000 bytes",
        "loop": "more than 5 redirects",
        "good": None,
    } == {key: errors[key] for key in ("error", "page", "large", "bomb", "loop", "good")}
    assert (12, 11, 1) == (result["checked"], result["failed"], result["noted"])
    assert "root:" not in json.dumps(result)
    assert ["Entry 1"] == _titles(recorder)


@pytest.fixture
def free_url() -> str:
    from tests.conftest import free_port

    return f"http://127.0.0.1:{free_port()}/feed"


def test_a_server_that_does_not_answer_or_only_drips_is_given_up(site: Site) -> None:
    stop_at = time.monotonic() + 5

    def drip(handler: BaseHTTPRequestHandler, size: int = 70_000) -> None:
        handler.send_response(200)
        handler.end_headers()
        while time.monotonic() < stop_at:
            handler.wfile.write(b" " * size)
            handler.wfile.flush()
            time.sleep(0.02)

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        drip(handler, size=1)

    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.readline()  # until the client hangs up

    site.answers |= {"/drip": drip, "/trickle": trickle, "/silent": silent}
    with httpx.Client(timeout=0.2) as client:
        with pytest.raises(FetchFailed, match="did not answer in time"):
            fetch(client, f"{site.url}/silent")
        with pytest.raises(FetchFailed, match="took too long"):
            fetch(client, f"{site.url}/drip", deadline_s=0.1, max_bytes=10**9)
        with pytest.raises(FetchFailed, match="took too long"):
            fetch(client, f"{site.url}/trickle", deadline_s=0.1, max_bytes=10**9)
    assert time.monotonic() < stop_at


def test_when_every_feed_failed_the_job_is_retried_and_no_address_is_shown(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    url = site.serve("/feed?token=s3cret", b"", status=503)
    subscribe(a=url, b=url)

    with pytest.raises(FetchFailed, match="no feed could be read: a: the server answered 503") as failure:
        run()

    assert "s3cret" not in str(failure.value)
    assert [] == recorder.emitted


def test_a_crash_while_emitting_loses_no_entry_and_emits_the_same_ids(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder, tmp_path: Path
) -> None:
    subscribe(blog=site.serve("/rss", rss(1, 2, 3)))
    recorder.fail_after = 2
    with pytest.raises(ConnectionError):
        run()
    assert not (tmp_path / "feeds").exists()
    first, recorder.fail_after = _ids(recorder), None
    recorder.emitted.clear()

    run()

    assert first == _ids(recorder)[:2]
    assert 3 == len(set(_ids(recorder)))


def test_a_refused_entry_is_skipped_and_the_others_are_noted(
    site: Site, subscribe: Callable[..., None], event: Callable[..., Event], world: World, recorder: Recorder
) -> None:
    def emit(name: str, data: Any, **options: Any) -> object:
        if data["title"] == "Entry 2":
            raise EventRefused("too large")
        return recorder.emit(name, data, **options)

    subscribe(blog=site.serve("/rss", rss(1, 2, 3)))
    picky = World(data_dir=world.data_dir, emit=emit, notify=world.notify, http=world.http)

    report = check(event("subscription/check-feeds.requested", {}), picky)["feeds"]["blog"]

    assert (2, 1) == (report["noted"], report["skipped"])
    assert ["Entry 1", "Entry 3"] == _titles(recorder)


def test_an_entry_without_a_web_link_is_skipped_once(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(blog=site.serve("/rss", rss(1, link="javascript:alert({})")))

    assert 1 == run()["feeds"]["blog"]["skipped"]
    assert 0 == run()["feeds"]["blog"]["skipped"]
    assert [] == recorder.emitted


def test_a_malformed_feed_whose_entries_can_be_read_is_read_with_a_warning_and_asked_for_whole_again(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    broken = rss(1, 2).replace(b"</channel></rss>", b"<item><title>cut &nope; <b")
    subscribe(blog=site.serve("/rss", broken, headers={"ETag": '"v1"'}))

    report = run()["feeds"]["blog"]

    assert "malformed" in report["warning"]
    assert {"Entry 1", "Entry 2"} <= set(_titles(recorder))
    run()
    assert "if-none-match" not in site.requests[-1][1]


def test_entities_that_grow_without_bound_do_no_harm() -> None:
    layers = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY l0 "lol">{layers}]><rss version="2.0"><channel>'
    bomb = f"{head}<item><title>&l9;</title><link>https://example.com/</link></item></channel></rss>"
    started = time.monotonic()
    try:
        feed = parse_feed(bomb.encode(), url="https://example.com/", content_type="application/rss+xml")
        assert all(len(entry.title or "") <= 300 for entry in feed.entries)
    except FetchFailed:
        pass
    assert time.monotonic() - started < 5


def test_one_feed_can_be_asked_for_and_an_unknown_one_is_refused(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(a=site.serve("/a", rss(1)), b=site.serve("/b", rss(2)))

    assert {"b"} == set(run(subscriptionId="b")["feeds"])
    with pytest.raises(PermanentFailure, match="no subscription 'c'"):
        run(subscriptionId="c")
    assert ["/b"] == [path for path, _ in site.requests]


def test_feeds_may_be_given_in_the_event(site: Site, run: Check, recorder: Recorder) -> None:
    result = run(feeds=[{"id": "a", "url": site.serve("/a", rss(1)), "first_check": 0}])

    assert (0, 1) == (result["noted"], result["checked"])


def test_without_subscriptions_there_is_nothing_to_do(run: Check) -> None:
    assert {"checked": 0, "failed": 0, "feeds": {}, "noted": 0} == run()


def test_bad_entries_of_the_subscriptions_file_are_reported_beside_good_feeds(
    site: Site, run: Check, tmp_path: Path
) -> None:
    url = site.serve("/a", rss(1))
    listed = [
        {"id": "a", "url": url}, {"id": "a", "url": url}, {"id": "../x", "url": url}, {"id": "c", "url": "ftp://x"},
        "https://x", {"id": "d", "url": url, "first_check": "5"},
    ]  # fmt: skip
    (tmp_path / "subscriptions.json").write_text(json.dumps(listed))

    result = run()

    assert (6, 5, 1) == (result["checked"], result["failed"], result["noted"])
    assert "the id 'a' is used twice" == result["feeds"]["entry 2"]["error"]


@pytest.mark.parametrize("text", ["{}", "[", '"x"'])
def test_a_subscriptions_file_that_is_no_list_is_named(run: Check, tmp_path: Path, text: str) -> None:
    (tmp_path / "subscriptions.json").write_text(text)

    with pytest.raises(PermanentFailure, match=r"subscriptions\.json"):
        run()


def test_what_a_feed_still_lists_is_never_forgotten(
    site: Site, subscribe: Callable[..., None], run: Check, recorder: Recorder
) -> None:
    subscribe(blog=site.serve("/rss", rss(*range(2_500))))
    run()

    assert 0 == run()["noted"]
    site.serve("/rss", rss(*range(2_501)))
    assert 1 == run()["noted"]
