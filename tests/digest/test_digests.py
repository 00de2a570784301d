"""Each window is closed once, whatever dies, and its page says what happened in it and nothing else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from joelclaw_tasks.core.digest_records import DigestRecord
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.routines.digest.comparison import compare
from joelclaw_tasks.routines.digest.digests import BATCH_WITHIN_MS, NotYet
from joelclaw_tasks.routines.digest.window import Window
from tests.digest.conftest import HOUR_MS, Office, answer

SECTIONS = ["Summary", "Key Events", "Learnings", "Connections", "Open Questions", "Tomorrow"]


def headings(page: str) -> list[str]:
    return [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]


def head(page: str) -> dict:
    return yaml.safe_load(page.split("---\n")[1])


def test_without_a_model_the_page_has_counts_firsts_failures_waits_acts_and_what_is_open(office: Office):
    office.clinic.go_well("note", 3)
    office.clinic.fail("mail", 2, data={"to": "anna", "password": "correct-horse-battery"})
    office.world.queue.pause("note", ttl="2h", reason="too much")

    record = office.close()

    page = office.page(record.window)
    assert ["made", "rules", 5] == [record.state, record.by, record.jobs]
    assert [*SECTIONS, "Payloads of what failed"] == headings(page)
    assert {"type": "digest", "window": record.window, "jobs": 5, "completed": 3, "failed": 2} == {
        name: head(page)[name] for name in ("type", "window", "jobs", "completed", "failed")
    }
    for said in (
        "5 jobs came: 3 done, 2 failed for good, 0 runs tried again.",
        "1. mail: failed 2 times: ConnectionRefusedError: \\[Errno 111\\] smtp.example.org",
        "mail: came for the first time",
        "- New: mail fails with",
        "pause family/note: too much",
        "- family/note is paused: too much",
        "| mail | 2 | 0 | 2 |",
    ):
        assert said in page
    assert "correct-horse-battery" not in page
    assert '"to":"anna"' in page


def test_a_page_tells_of_its_window_alone(office: Office):
    office.clinic.fail("mail", 1)
    first = office.close()
    office.clinic.go_well("mail", 2)

    second = office.close()

    page = office.page(second.window)
    assert (1, 2) == (first.jobs, second.jobs)
    assert "0 failed for good" in page
    assert "first time" not in page
    assert "ConnectionRefused" not in page
    assert "Key Events\n\nNothing.\n" in page


def test_a_window_in_which_nothing_happened_has_no_page(office: Office):
    record = office.close()

    assert ("empty", None, 0) == (record.state, record.path, record.jobs)
    assert not office.digests.folder.exists()
    assert [] == office.digests.due(HOUR_MS)


def test_a_window_is_due_from_its_end_on_and_not_once_it_is_closed(office: Office):
    assert [] == office.digests.due(HOUR_MS)  # the one in which it was turned on has not ended
    office.clinic.go_well("note", 1)
    first = office.next_hour()
    second = office.next_hour()

    assert [first, second] == office.digests.due(HOUR_MS)
    office.digests.close(first, "rules")
    assert [second] == office.digests.due(HOUR_MS)


def test_closed_twice_it_is_the_same_page_and_no_model_is_asked_again(office: Office, api: MessagesApi):
    api.script(answer())
    office.clinic.go_well("note", 1)
    first = office.close("model")
    page = office.page(first.window)

    again = office.digests.close(Window.of_name(first.window), "model", attempts=2)

    assert (first, page, 1) == (again, office.page(first.window), api.count)


def test_a_page_whose_writer_died_before_it_was_noted_is_taken_over(office: Office, api: MessagesApi):
    api.script(answer())
    office.clinic.go_well("note", 1)
    first = office.close("model")
    page = office.page(first.window)
    office.digests.records.forget(first.window)  # as if it had been killed between the two

    again = office.digests.close(Window.of_name(first.window), "model", attempts=2)

    assert (first, page, 1) == (again, office.page(first.window), api.count)


def test_two_that_close_a_window_at_once_leave_one_page_and_one_record(office: Office):
    office.clinic.go_well("note", 2)
    window = office.next_hour()
    found: list[DigestRecord] = []

    threads = [
        threading.Thread(target=lambda: found.append(office.digests.close(window, "rules"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert 4 == len(found)
    assert {office.digests.records.get(window.name)} == set(found)
    assert [f"{window.name}.md"] == [path.name for path in office.digests.folder.iterdir()]


def test_a_model_writes_the_sections_and_its_cost_is_kept(office: Office, api: MessagesApi):
    api.script(answer())
    office.clinic.fail("mail", 1, data={"password": "correct-horse-battery", "to": "anna"})

    record = office.close("model")

    page = office.page(record.window)
    assert ("haiku", None) == (record.by, record.fallback)
    assert record.cost_usd > 0
    assert record.tokens > 500
    assert "Mail fails. The rest went well." in page
    assert "1. Mail failed 3 times." in page
    assert "- joel paused note." in page
    [asked] = api.requests
    assert "ConnectionRefusedError" in asked.per_call
    assert "correct-horse-battery" not in asked.per_call


@pytest.mark.parametrize(
    ("act", "fallback"),
    [
        (Act(fault=Fault.OVERLOADED), "overloaded"),
        (Act(fault=Fault.RATE_LIMITED), "rate_limited"),
        (answer(summary=""), "invalid_answer"),
        ("not JSON at all", "invalid_json"),
    ],
)
def test_without_an_answer_rules_write_the_page_and_it_says_why(
    office: Office, api: MessagesApi, act: object, fallback: str
):
    api.script(act)
    office.clinic.go_well("note", 1)

    record = office.close("model")

    assert ("rules", fallback) == (record.by, record.fallback)
    assert fallback == head(office.page(record.window))["fallback"]
    assert "1 job came: 1 done" in office.page(record.window)


def test_a_model_cannot_write_markdown_into_the_page(office: Office, api: MessagesApi):
    begging = "[click](https://evil.example) <script> # Heading | `rm`"
    api.script(answer(summary=begging, key_events=["line\n## Another section", *["x"] * 20]))
    office.clinic.go_well("note", 1)

    page = office.page(office.close("model").window)

    assert SECTIONS == headings(page)
    assert "\\[click\\](https://evil.example)" in page  # text, and no link
    assert "<script>" not in page
    assert 7 == sum(line[:1].isdigit() for line in page.splitlines())


def test_the_answer_of_a_batch_is_looked_for_later_and_costs_half(office: Office, api: MessagesApi):
    api.rule = lambda _: answer()
    office.clinic.go_well("note", 1)
    full = office.close("model")
    api.batches.takes_s = 3_600
    office.clinic.go_well("note", 1)
    window = office.next_hour()

    first = office.digests.close(window, "batch")
    assert isinstance(first, NotYet)
    assert office.digests.records.get(window.name) is None
    api.batches.takes_s = 0
    record = office.digests.close(window, "batch", looks=1)

    assert ("haiku", 1) == (record.by, record.looks)
    assert 0 < record.cost_usd < full.cost_usd * 0.75  # the sizes of the two prompts differ a little


def test_a_batch_that_takes_too_long_leaves_the_page_to_rules(office: Office, api: MessagesApi):
    api.batches.takes_s = 100_000
    office.clinic.go_well("note", 1)
    window = office.next_hour()
    assert isinstance(office.digests.close(window, "batch"), NotYet)
    office.world.clock.move_to(window.end_at + BATCH_WITHIN_MS + 1)

    record = office.digests.close(window, "batch")

    assert ("rules", "timeout") == (record.by, record.fallback)


def test_what_has_left_the_stream_is_said_to_be_missing(office: Office):
    office.clinic.store.transitions_max = office.clinic.store.history._transitions_max = 100
    office.clinic.go_well("note", 200)

    record = office.close()

    assert "has left the stream and is not counted here" in office.page(record.window)
    assert record.jobs < 200


def test_a_folder_that_cannot_be_written_leaves_the_window_open(office: Office, tmp_path: Path):
    office.digests.folder.parent.mkdir(exist_ok=True)
    office.digests.folder.write_text("a file is in the way")
    assert [] == office.digests.due(HOUR_MS)
    office.clinic.go_well("note", 1)
    window = office.next_hour()

    with pytest.raises(OSError, match="exists"):
        office.digests.close(window, "rules")

    assert [window] == office.digests.due(HOUR_MS)[-1:]


def test_while_redis_is_away_nothing_is_written(office: Office, monkeypatch: pytest.MonkeyPatch):
    office.clinic.go_well("note", 1)
    window = office.next_hour()
    with monkeypatch.context() as patch:
        patch.setattr(
            office.clinic.store.client.connection_pool, "connection_kwargs", {"port": 1, "host": "127.0.0.1"}
        )
        office.clinic.store.client.connection_pool.disconnect()
        office.clinic.store.client.connection_pool.reset()
        with pytest.raises(CoreUnreachable):
            office.digests.close(window, "rules")
    office.clinic.store.client.connection_pool.reset()

    assert not office.digests.folder.exists()
    assert "made" == office.digests.close(window, "rules").state


def a_record(start_h: int, hours: int, **more: object) -> DigestRecord:
    start = start_h * HOUR_MS
    end = start + hours * HOUR_MS
    fields = {
        "state": "made",
        "made_at": end + 10_000,
        "jobs": 100,
        "took_ms": 50.0,
        "by": "haiku",
        "cost_usd": 0.001,
    }
    return DigestRecord(Window(start, end).name, start, end, **{**fields, **more})


def test_a_day_in_windows_is_compared_with_the_day_in_one_step():
    day = Window(0, 24 * HOUR_MS)
    parts = [a_record(hour, 1) for hour in range(23)]
    parts.append(a_record(23, 1, attempts=3, made_at=24 * HOUR_MS + 60_000, by="rules", cost_usd=0.0))
    whole = a_record(0, 24, jobs=2_400, attempts=2, cost_usd=0.004)

    found = compare(day, [*parts, whole, a_record(24, 1)])

    windows, single = found["windows"], found["single_step"]
    assert (24, 2_400, 2, 200, 1) == tuple(
        windows[name] for name in ("pages", "jobs", "retries", "repeated_jobs", "by_rules")
    )
    assert (1, 2_400, 1, 2_400, 0) == tuple(
        single[name] for name in ("pages", "jobs", "retries", "repeated_jobs", "by_rules")
    )
    assert (10_000, 60_000, 0.023) == (
        windows["after_end_p50_ms"], windows["after_end_max_ms"], windows["cost_usd"],
    )  # fmt: skip
    assert (30 * 60_000 + 12_083, 12 * HOUR_MS + 10_000) == (windows["age_ms"], single["age_ms"])
    assert compare(day, [])["windows"] is None
