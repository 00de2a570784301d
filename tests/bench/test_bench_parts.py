"""Records, pacing, the profile reader and what the soak complains of."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bench.producer import pace, publish
from bench.profile import read_samples, report
from bench.records import Record, RecordWriter, count_records, read_records
from bench.soak import complaints, growth


def test_a_file_that_no_task_has_written_yet_holds_no_records(tmp_path: Path) -> None:
    assert count_records(tmp_path / "records") == 0


def test_records_of_many_threads_arrive_whole(tmp_path: Path) -> None:
    path = tmp_path / "records"
    writer = RecordWriter(path)

    def write(thread: int) -> None:
        for number in range(200):
            writer.append(thread, number)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_records(path) == 800
    assert sorted(read_records(path)) == [Record(t, n) for t in range(4) for n in range(200)]


def test_publish_sends_every_call_with_a_moment_of_its_own() -> None:
    sent: list[int] = []
    answer = publish(sent.append, 50)
    assert 50 == len(set(sent)) == answer["count"]
    assert answer["first_sent_at_ns"] <= min(sent)


@pytest.mark.timing
def test_a_slow_call_does_not_move_the_calls_after_it() -> None:
    sent: list[int] = []

    def delay(sent_at_ns: int) -> None:
        if not sent:
            time.sleep(0.05)  # the fault under test: the first call is as slow as five turns
        sent.append(sent_at_ns)

    answer = pace(delay, 20, per_s=100)
    assert len(sent) == 20
    assert pytest.approx((sent[-1] - answer["first_sent_at_ns"]) / 1e9, abs=0.02) == 0.19


def test_samples_become_microseconds_per_task_without_the_start_up() -> None:
    lines = [
        "main (/v/site-packages/celery/app.py:1);_put (/src/joelclaw_tasks/broker/transport.py:9) 30",
        "main (/v/site-packages/celery/app.py:1) 10",
        "main (/v/site-packages/celery/app.py:1);_find_and_load (<frozen importlib._bootstrap>:1) 500",
    ]
    costs = {cost.name: cost for cost in read_samples(lines, tasks=1_000, samples_per_s=100)}
    put = costs["_put (joelclaw_tasks/broker/transport.py:9)"]
    assert (put.self_us, put.total_us, put.is_ours) == (300.0, 300.0, True)
    app = costs["main (celery/app.py:1)"]
    assert (app.self_us, app.total_us, app.is_ours) == (100.0, 400.0, False)
    assert len(costs) == 2
    assert "300.0  joelclaw_tasks" in report(list(costs.values()), top=5)


AS_IT_SHOULD_BE = {
    "statuses": {200: 7, 202: 3}, "ends": {"completed": 11}, "flower": {"SUCCESS": 11}, "peak_mb": 699.9,
    "growth_mb": {"redis": 5.0, "beat": -1.0},
}  # fmt: skip


def test_growth_is_from_the_third_quarter_to_the_last() -> None:
    courses = {"starts": [1.0, 9.0, 9.0, 9.0], "leaks": [1.0, 2.0, 3.0, 4.5], "falls": [9.0, 9.0, 9.0, 8.0]}
    assert growth(courses) == {"starts": 0.0, "leaks": 1.5, "falls": -1.0}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("statuses", {200: 9, 503: 1}, ["not every request was accepted"]),
        ("ends", {"completed": 10, "discarded": 1}, ["not every job was completed"]),
        ("flower", {"STARTED": 3}, ["Flower does not show finished tasks"]),
        ("peak_mb", 700.1, ["more than 700 MB"]),
        ("growth_mb", {"redis": 0.0, "flower": 5.1}, ["a process still grows"]),
        ("peak_mb", 532.0, []),
    ],
)
def test_a_soak_is_red_for_each_thing_that_is_not_as_it_should_be(
    name: str, value: object, said: list[str]
) -> None:
    assert complaints(AS_IT_SHOULD_BE | {name: value}) == said
