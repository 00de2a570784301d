"""A spool keeps whole lines, through crashes, full disks and two of everything."""

from __future__ import annotations

import json
import multiprocessing
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from joelclaw_tasks.errors import CoreUnreachable, SpoolFailed
from joelclaw_tasks.spool import AT_ONCE, Drained, Spool


def accepting(sent: list[bytes]):
    def send(lines):
        sent.extend(lines)
        return {}

    return send


def test_lines_come_out_once_in_the_order_in_which_they_went_in(spool: Path):
    queue, sent = Spool(spool), []
    queue.append([b"1", b"2"])
    queue.append([b"3"])
    assert queue.has_lines()
    assert Drained(3, 0) == queue.drain(accepting(sent))
    assert [b"1", b"2", b"3"] == sent
    assert not queue.has_lines()
    assert Drained(0, 0) == queue.drain(accepting(sent))
    assert [b"1", b"2", b"3"] == sent


def test_it_is_readable_by_its_owner_only(spool: Path):
    queue = Spool(spool)
    queue.append([b"1"])
    queue.drain(lambda lines: {0: "no"})
    queue.append([b"2"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.parent.iterdir()}
    assert dict.fromkeys(["events.jsonl", "events.jsonl.lock", "events.jsonl.refused"], 0o600) == modes
    assert 0o700 == stat.S_IMODE(spool.parent.stat().st_mode)


def test_a_torn_line_does_not_take_the_next_one_along(spool: Path):
    queue, sent = Spool(spool), []
    queue.append([b"whole"])
    with spool.open("ab") as file:
        file.write(b'{"na')  # a producer died here
    queue.append([b"next"])
    queue.drain(accepting(sent))
    assert [b"whole", b'{"na', b"next"] == sent


def test_what_was_not_sent_stays_and_what_was_sent_is_not_sent_again(spool: Path):
    queue, sent = Spool(spool), []
    queue.append([b"%d" % number for number in range(AT_ONCE + 10)])

    def send_once(lines):
        if sent:
            raise CoreUnreachable("away again")
        sent.extend(lines)
        return {}

    with pytest.raises(CoreUnreachable):
        queue.drain(send_once)
    queue.append([b"later"])
    assert AT_ONCE == len(sent)
    assert Drained(11, 0) == queue.drain(accepting(sent))
    assert [*(b"%d" % number for number in range(AT_ONCE + 10)), b"later"] == sent


def test_a_replay_that_is_killed_goes_on_with_the_lines_that_it_had(spool: Path):
    Spool(spool).append([b"first", b"second"])
    script = f"""
        import os
        from pathlib import Path
        from joelclaw_tasks.spool import Spool
        Spool(Path({str(spool)!r})).drain(lambda lines: os._exit(9))
    """
    assert 9 == subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode
    sent: list[bytes] = []
    Spool(spool).append([b"third"])
    assert Drained(3, 0) == Spool(spool).drain(accepting(sent))
    assert [b"first", b"second", b"third"] == sent


def test_of_two_replays_at_once_one_does_nothing(spool: Path):
    queue, seen = Spool(spool), []
    queue.append([b"line"])

    def send(lines):
        seen.append(Spool(spool).drain(lambda _: pytest.fail("two send the same lines")))
        queue.append([b"meanwhile"])  # producers are not held up
        return {}

    sent: list[bytes] = []

    def send_first_so(lines):
        sent.extend(lines)
        return send(lines) if len(sent) == 1 else {}

    assert Drained(2, 0) == queue.drain(send_first_so)
    assert [Drained(busy=True)] == seen
    assert [b"line", b"meanwhile"] == sent


def _append_many(path: Path, name: int) -> None:
    for number in range(100):
        Spool(path).append([b"%d-%d" % (name, number)])


def test_producers_and_a_replay_at_the_same_time_lose_and_repeat_nothing(spool: Path):
    context = multiprocessing.get_context("spawn")
    producers = [context.Process(target=_append_many, args=(spool, name)) for name in range(3)]
    sent: list[bytes] = []
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        Spool(spool).drain(accepting(sent))
    for producer in producers:
        producer.join()
        assert 0 == producer.exitcode
    Spool(spool).drain(accepting(sent))
    assert sorted(b"%d-%d" % (name, number) for name in range(3) for number in range(100)) == sorted(sent)


def test_on_a_full_disk_a_line_is_refused_whole_and_the_others_stay(spool: Path):
    script = f"""
        import resource
        from pathlib import Path
        from joelclaw_tasks.errors import SpoolFailed
        from joelclaw_tasks.spool import Spool
        queue = Spool(Path({str(spool)!r}))
        queue.append([b"before"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))  # the disk has room for half of the next one
        try:
            queue.append([b"x" * 50])
        except SpoolFailed as error:
            print(error)
        queue.append([b"after"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert f"the spool {spool} cannot be written: File too large\n" == done.stdout
    assert b"before\nafter\n" == spool.read_bytes()


def test_a_full_disk_ends_a_replay_and_loses_nothing(spool: Path):
    queue = Spool(spool)
    queue.append([b"good", b"bad"])
    script = f"""
        import resource
        from pathlib import Path
        from joelclaw_tasks.errors import SpoolFailed
        from joelclaw_tasks.spool import Spool
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))
        try:
            Spool(Path({str(spool)!r})).drain(lambda lines: {{1: "a long reason " * 9}})
        except SpoolFailed as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert f"the spool {spool} cannot be replayed: File too large\n" == done.stdout
    sent: list[bytes] = []
    assert Drained(2, 0) == queue.drain(accepting(sent))
    assert [b"good", b"bad"] == sent


def test_what_is_refused_is_kept_aside_with_the_reason_and_can_be_taken_back(spool: Path):
    queue = Spool(spool)
    queue.append([b'{"n": 1}', b"{torn", b'{"n": 3}'])
    assert Drained(1, 2) == queue.drain(lambda lines: {0: "unknown event", 1: "unreadable"})
    kept = [json.loads(line) for line in queue.refused_path.read_text().splitlines()]
    assert [("unknown event", '{"n": 1}'), ("unreadable", "{torn")] == [
        (k["reason"], k["line"]) for k in kept
    ]
    assert not queue.has_lines()

    assert 1 == queue.take_back(lambda line: None if b"torn" in line else line)
    sent: list[bytes] = []
    queue.drain(accepting(sent))
    assert [b'{"n": 1}'] == sent
    assert ["{torn"] == [json.loads(line)["line"] for line in queue.refused_path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["directory", "device"])
def test_what_is_no_file_is_refused_in_words(tmp_path: Path, kind: str):
    path = tmp_path if kind == "directory" else Path("/dev/null")
    with pytest.raises(SpoolFailed, match="cannot be written: "):
        Spool(path).append([b"line"])
