"""What is told, what waits, and what is left out: decided in Redis, by one of however many tell at once."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from joelclaw_tasks.core.notices import LEASE_MS, Notices
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.notify.notification import Notification
from joelclaw_tasks.notify.notifier import Notifier, Pace
from joelclaw_tasks.notify.sink import SinkAway, SinkRefused
from joelclaw_tasks.quiet import QuietHours
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.server import free_port
from tests.conftest import wait_until
from tests.notify.conftest import DAY, HOUR, MINUTE, Office, Recorder, telegram
from tests.notify.servers import Answer

NIGHT = QuietHours.parse("23:00-07:00 UTC")


def tell(
    notifier: Notifier, text: str, cause: str = "disk", severity: str = "warning", change: str = "", **more
):
    return notifier.tell(Notification.clean(text, cause=cause, severity=severity, change=change, **more))


def test_what_is_noticed_again_and_again_is_told_once_and_then_in_digests_farther_and_farther_apart(office):
    sink = Recorder()
    notifier = office.notifier(sink)

    words = []
    for _ in range(24 * 20):  # a day, every three minutes
        words.append(tell(notifier, "The disk is full."))
        notifier.run_due()
        office.wait(3 * MINUTE)

    assert "told" == words[0]
    assert {"held"} == set(words[1:])
    assert "The disk is full." == sink.texts[0]
    gaps = [(b.at - a.at) // MINUTE for a, b in zip(sink.taken, sink.taken[1:], strict=False)]
    assert [15, 30, 60, 120, 240, 240, 240, 240, 240] == gaps
    assert ["12:15 UTC warning: The disk is full. (5 times)"] == list(sink.taken[1].lines)


def test_what_is_worse_than_what_was_told_is_told_at_once(office):
    sink = Recorder()
    notifier = office.notifier(sink)

    words = [tell(notifier, how, severity=how) for how in ("info", "warning", "info", "error", "error")]

    assert ["told", "told", "held", "told", "held"] == words
    assert ["info", "warning", "error"] == sink.texts


def test_other_causes_are_not_held_back(office):
    sink = Recorder()
    notifier = office.notifier(sink)

    assert ["told"] * 3 == [tell(notifier, cause, cause=cause) for cause in ("a", "b", "c")]


def test_a_state_is_told_when_it_begins_and_when_it_is_over_and_not_in_between(office):
    sink = Recorder()
    notifier = office.notifier(sink)

    words = []
    for change in ("opened", "opened", "opened", "resolved", "resolved"):
        words.append(tell(notifier, change, change=change))
        office.wait(MINUTE)
        notifier.run_due()

    assert ["told", "repeated", "repeated", "told", "nothing"] == words
    assert ["opened", "resolved"] == sink.texts


def test_each_kind_of_change_is_told_once_a_day_and_the_rest_comes_in_a_digest(office):
    sink = Recorder()
    notifier = office.notifier(sink)

    for _ in range(4):  # it flaps
        for change in ("opened", "changed", "resolved"):
            tell(notifier, change, change=change)
            office.wait(MINUTE)
    assert ["opened", "changed", "resolved"] == sink.texts
    notifier.run_due()
    assert 3 == len(sink.taken)

    office.wait(HOUR)
    notifier.run_due()

    assert ["12:11 UTC warning: resolved (9 times)"] == list(sink.taken[3].lines)
    office.wait(DAY)
    assert "told" == tell(notifier, "opened", change="opened")


def test_what_goes_on_is_told_again_after_a_day(office):
    notifier = office.notifier(Recorder())
    words = []
    for _ in range(49):
        words.append(tell(notifier, "Redis is down.", change="opened"))
        office.wait(HOUR)

    assert [0, 24, 48] == [hour for hour, word in enumerate(words) if word != "repeated"]


def test_what_ends_by_itself_may_begin_again(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    ends_at = office.clock.now_ms() + 10 * MINUTE

    assert "told" == tell(notifier, "paused", change="opened", ends_at=ends_at)
    office.wait(9 * MINUTE)
    assert "repeated" == tell(notifier, "paused", change="opened", ends_at=ends_at)
    office.wait(HOUR)
    assert "held" == tell(notifier, "paused", change="opened", ends_at=ends_at + 2 * HOUR)
    notifier.run_due()
    assert ["paused", "1 thing was held back:"] == sink.texts


def test_in_quiet_hours_only_what_is_critical_is_told_and_the_rest_comes_in_the_morning(office):
    sink = Recorder()
    notifier = office.notifier(sink, quiet=NIGHT)
    office.clock.move_to(int(datetime(2026, 3, 1, 23, 30, tzinfo=UTC).timestamp() * 1000))

    for severity in ("info", "warning", "error", "critical"):
        tell(notifier, f"It is {severity}.", cause=severity, severity=severity)
    for _ in range(7):
        office.wait(HOUR)
        notifier.run_due()
    assert ["It is critical."] == sink.texts  # 06:30

    office.wait(HOUR)
    notifier.run_due()

    assert [
        "23:30 UTC error: It is error.", "23:30 UTC warning: It is warning.", "23:30 UTC It is info.",
    ] == list(sink.taken[1].lines)  # fmt: skip
    office.wait(DAY // 4)
    notifier.run_due()
    assert 2 == len(sink.taken)
    assert [] == office.notices.held()


def test_a_digest_has_a_bounded_number_of_lines_and_says_how_many_are_missing(office):
    sink = Recorder()
    notifier = office.notifier(sink, quiet=QuietHours.parse("11:00-13:00 UTC"), digest_lines=3)
    for number in range(10):
        tell(notifier, f"number {number}", cause=f"c{number}", severity="error" if number == 4 else "info")

    office.wait(HOUR)
    notifier.run_due()

    (digest,) = sink.taken
    assert ("10 things were held back:", "error") == (digest.text, digest.severity)
    assert "12:00 UTC error: number 4" == digest.lines[0]
    assert "… and 7 more: `joelclaw notify list`" == digest.lines[-1]
    assert 4 == len(digest.lines)


def test_a_muted_cause_is_silent_until_the_end_and_then_told_anew(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    tell(notifier, "down", change="opened")
    office.notices.mute("disk", office.clock.now_ms() + 4 * HOUR, actor="telegram:42", reason="button")

    words = []
    for _ in range(6):
        office.wait(HOUR)
        words.append(tell(notifier, "down", change="opened"))
        notifier.run_due()

    assert ["muted", "muted", "muted", "told", "repeated", "repeated"] == words
    assert ["down", "down"] == sink.texts
    assert {} == office.notices.mutes()


def test_even_what_is_worse_is_silent_while_its_cause_is_muted_and_others_are_not(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    office.notices.mute("disk", office.clock.now_ms() + HOUR, actor="joel", reason="")

    assert ["muted", "told"] == [
        tell(notifier, "a", severity="critical"), tell(notifier, "b", cause="net", severity="info"),
    ]  # fmt: skip
    assert office.notices.unmute("disk")
    assert "told" == tell(notifier, "a", severity="critical")


def test_what_was_held_back_and_muted_since_is_not_in_the_digest(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    for cause in ("disk", "net"):
        tell(notifier, "one", cause=cause)
        tell(notifier, "two", cause=cause)
    office.notices.mute("disk", office.clock.now_ms() + HOUR, actor="joel", reason="")

    office.wait(MINUTE * 20)
    notifier.run_due()

    assert [["12:00 UTC warning: two"]] == [list(notice.lines) for notice in sink.taken[2:]]
    assert [] == office.notices.held()


def test_a_sink_gets_only_so_many_messages_an_hour_and_a_part_is_kept_for_what_is_critical(office):
    sink = Recorder(most_per_hour=8)
    notifier = office.notifier(sink)

    for number in range(30):
        tell(notifier, f"n{number}", cause=f"c{number}")
    assert [f"n{number}" for number in range(6)] == sink.texts
    tell(notifier, "fire", cause="fire", severity="critical")
    tell(notifier, "flood", cause="flood", severity="critical")
    tell(notifier, "plague", cause="plague", severity="critical")
    assert ["fire", "flood"] == sink.texts[6:]

    office.wait(HOUR)
    notifier.run_due()

    assert 9 == len(sink.taken)
    assert "25 things were held back:" == sink.texts[8]
    assert "critical: plague" in sink.taken[8].lines[0]
    office.wait(HOUR)
    notifier.run_due()
    assert 9 == len(sink.taken)


def test_a_sink_that_is_away_loses_nothing_and_is_asked_more_rarely(office):
    sink, other = Recorder(), Recorder("other")
    notifier = office.notifier(sink, other)
    sink.fails = [SinkAway("no route")] * 4

    tell(notifier, "one", cause="a")
    tell(notifier, "two", cause="b")
    tried = []
    for _ in range(60):
        office.wait(10_000)
        before = len(sink.fails)
        notifier.run_due()
        tried.append(before - len(sink.fails))

    assert (["one", "two"], ["one", "two"]) == (sink.texts, other.texts)
    assert [2, 8, 20] == [index for index, each in enumerate(tried) if each]
    assert {"waiting": 0, "error": None}.items() <= office.notices.sink("recorder").items()


def test_more_than_a_few_that_waited_for_a_sink_come_as_one(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    sink.fails = [SinkAway("no route", 3_600)]
    for number in range(7):
        tell(notifier, f"n{number}", cause=f"c{number}")

    office.wait(HOUR)
    notifier.run_due()

    (digest,) = sink.taken
    assert 7 == len(digest.lines)


def test_what_a_sink_refuses_for_good_holds_up_nothing_and_is_in_the_log(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    sink.fails = [SinkRefused("not like this")]

    tell(notifier, "one", cause="a")
    tell(notifier, "two", cause="b")

    assert ["two"] == sink.texts
    assert ["told", "refused", "told"] == [entry["word"] for entry in office.notices.log()]
    assert 1 == office.notices.sink("recorder")["dropped"]


def test_a_defect_of_a_sink_stops_neither_the_others_nor_whoever_tells(office):
    sink, other = Recorder(), Recorder("other")
    sink.fails = [ZeroDivisionError("a defect")]
    notifier = office.notifier(sink, other)

    assert "told" == tell(notifier, "one")
    assert ["one"] == other.texts
    assert 1 == office.notices.sink("recorder")["waiting"]


def test_whoever_dies_while_delivering_leaves_it_to_the_next_one_after_its_lease(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    sink.fails = [SinkAway("away", 1)]
    tell(notifier, "one")
    office.wait(2_000)
    taken = office.notices.take(
        "recorder", "dies", now_ms=office.clock.now_ms(), most_per_hour=0, singly=5
    )  # and nothing more is heard of it
    assert 1 == len(taken)

    notifier.run_due()
    assert [] == sink.texts
    office.wait(LEASE_MS)
    notifier.run_due()

    assert ["one"] == sink.texts


def test_whoever_is_killed_while_a_message_is_on_its_way_loses_nothing(redis_url, tmp_path, office, bot):
    """At least once: the message was not answered, so it is sent again when the dead one's lease is over."""
    bot.next_answers = [Answer(200, {"ok": True}, hold_s=30)]
    settings = telegram(bot)
    program = f"""
import sys
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
Notifier.of(Settings(redis_url=sys.argv[1], **{settings!r}))("The disk is full.", cause="disk")
"""
    process = subprocess.Popen([sys.executable, "-c", program, redis_url], stdout=subprocess.DEVNULL)
    wait_until(lambda: bot.asked, "the message is on its way", 20)
    process.kill()
    process.wait(10)
    office.clock.move_to(Store.connect(office.settings).now_ms())
    notifier = office.configured(**settings)
    notifier.run_due()
    assert [] == bot.texts

    office.wait(LEASE_MS)
    notifier.run_due()
    notifier.run_due()

    assert ["The disk is full."] == bot.texts


def test_while_a_redis_does_not_answer_it_is_not_asked_each_time(office, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        notifier = Notifier.of(Settings(redis_url=f"redis://127.0.0.1:{port}/0", home=tmp_path))
        began = time.monotonic()
        for number in range(20):
            notifier(f"n{number}", cause=f"c{number}")

    assert time.monotonic() - began < 6
    assert 20 == len(capsys.readouterr().out.splitlines())


def test_more_causes_than_can_be_kept_share_a_line(office):
    sink = Recorder()
    notifier = office.notifier(sink, quiet=QuietHours.parse("11:00-13:00 UTC"), digest_lines=2_000)
    for number in range(1_010):
        tell(notifier, f"n{number}", cause=f"c{number:04}")

    assert 1_001 == len(office.notices.held())
    office.wait(HOUR)
    for _ in range(3):
        notifier.run_due()

    assert [500, 500, 1] == [len(notice.lines) for notice in sink.taken]
    assert ["12:00 UTC warning: n1009 (10 times)"] == [
        line for notice in sink.taken for line in notice.lines if "times" in line
    ]


def test_an_outbox_is_bounded_and_says_what_it_dropped(office):
    sink = Recorder()
    notifier = office.notifier(sink)
    sink.fails = [SinkAway("away", 3_600)]
    for number in range(1_003):
        tell(notifier, f"n{number}", cause=f"c{number}")

    seen = office.notices.sink("recorder")
    assert (1_000, 3) == (seen["waiting"], seen["dropped"])


def test_of_many_who_tell_the_same_at_once_one_tells_it(office):
    sinks = [Recorder() for _ in range(8)]
    ready = threading.Barrier(8)

    def run(sink: Recorder) -> None:
        store = Store.connect(office.settings, now_ms=office.clock.now_ms)
        notifier = Notifier(Notices(store), [sink], Pace())
        ready.wait()
        for number in range(10):
            tell(notifier, f"n{number}", cause=f"c{number}")
        store.client.close()

    threads = [threading.Thread(target=run, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    office.notifier(sinks[0]).run_due()

    said = [line for sink in sinks for notice in sink.taken for line in notice.lines or [notice.text]]
    assert 10 == len(said)


def test_several_processes_that_tell_at_once_print_it_once(redis_url, tmp_path):
    program = """
import sys
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.settings import Settings
notify = Notifier.of(Settings(redis_url=sys.argv[1]))
sys.stdin.readline()
notify("The disk is full.", cause="disk", severity="warning")
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, redis_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate("go\n", timeout=30)[0] for process in processes]

    assert ["", "warning: The disk is full.\n"] == sorted(answers)


def test_without_redis_the_console_says_it_all_the_same_once(tmp_path, capsys):
    notifier = Notifier.of(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0", home=tmp_path))

    for _ in range(3):
        notifier("Redis is away.", cause="redis", severity="error")
    notifier("Another thing.", cause="other")

    assert "error: Redis is away.\nAnother thing.\n" == capsys.readouterr().out


def test_a_redis_that_forgot_everything_does_not_stop_anybody(office, client):
    sink = Recorder()
    notifier = office.notifier(sink)
    tell(notifier, "one")
    client.flushall()
    client.script_flush()

    assert "told" == tell(notifier, "one")
    assert {"digest": 0, "waiting": {"recorder": 0}} == notifier.run_due()


@pytest.mark.parametrize(
    ("text", "cause"),
    [("", ""), (None, None), ("\x1b[31mred\x00", "a\nb"), ("\ud800", "x" * 9_000), ("%s|{}", "|1|")],
)
def test_whatever_is_given_is_told(office, text, cause):
    sink = Recorder()
    notifier = office.notifier(sink)

    notifier(text, cause=cause, severity="no such thing", change="neither")
    notifier.tell(Notification.clean(text, cause=cause, severity="warning"))
    office.wait(HOUR)
    notifier.run_due()

    assert 2 == len(sink.taken)
    shown = sink.taken[0].text + sink.taken[0].cause
    assert shown.isprintable()
    assert len(sink.taken[0].cause) <= 200
    assert "warning" == sink.taken[0].severity


def test_a_secret_is_not_told(office, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "squid-ink-and-salt-1234")
    sink = Recorder()

    office.notifier(sink)("It failed: key squid-ink-and-salt-1234, Bearer abcdef0123456789", cause="x")

    assert "squid" not in sink.texts[0]
    assert "abcdef0123456789" not in sink.texts[0]
    assert "squid" not in str(office.notices.log())


def test_nothing_is_left_in_redis_but_what_is_remembered(office, client):
    sink = Recorder()
    notifier = office.notifier(sink)
    tell(notifier, "one", change="resolved", cause="never opened")
    tell(notifier, "one")
    first = client.pttl("{jc}:notify_cause:disk")
    tell(notifier, "two")
    office.wait(HOUR)
    notifier.run_due()

    assert first > 0
    kept = {key.removeprefix("{jc}:") for key in client.keys("*")}
    assert {"notify_cause:disk", "notify_log", "notify_sent:recorder"} == kept
    assert all(client.pttl("{jc}:" + key) > 0 for key in kept - {"notify_log"})


def test_the_office_is_what_the_settings_say(office: Office) -> None:
    notifier = office.configured(notify="console", notify_cooldown_s=60, notify_quiet_hours="23:00-07:00 UTC")

    assert ["console"] == [sink.name for sink in notifier.sinks]
    assert (60_000, NIGHT) == (notifier._pace.cooldown_ms, notifier._pace.quiet)
