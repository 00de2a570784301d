"""The latency proxy adds what it says and changes nothing else."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from bench.processes import proxy


@pytest.fixture
def near(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url)
    yield client
    client.close()


@pytest.fixture
def far(redis_url: str) -> Iterator[redis.Redis]:
    with proxy(urlsplit(redis_url).port, rtt_ms=10) as port:
        client = redis.Redis(port=port)
        yield client
        client.close()


def round_trip_ms(client: redis.Redis) -> float:
    client.ping()
    times = []
    for _ in range(20):
        started_at = time.perf_counter()
        client.ping()
        times.append((time.perf_counter() - started_at) * 1e3)
    return statistics.median(times)


def test_a_round_trip_takes_the_added_time_longer(near: redis.Redis, far: redis.Redis) -> None:
    assert round_trip_ms(far) - round_trip_ms(near) == pytest.approx(10, abs=3)


def test_a_pipeline_waits_once_and_not_once_for_each_command(far: redis.Redis) -> None:
    far.ping()
    pipeline = far.pipeline(transaction=False)
    for number in range(100):
        pipeline.set(f"key-{number}", number)
    started_at = time.perf_counter()
    answers = pipeline.execute()
    assert answers == [True] * 100
    assert time.perf_counter() - started_at < 0.2  # one by one they would take a second


def test_a_value_larger_than_every_buffer_arrives_as_it_was(near: redis.Redis, far: redis.Redis) -> None:
    value = bytes(range(256)) * 16_384  # 4 MiB
    far.set("large", value)
    assert value == near.get("large")
    assert value == far.get("large")


def test_two_connections_do_not_wait_for_each_other(far: redis.Redis) -> None:
    far.ping()
    with far.pubsub() as listener:  # a connection of its own, blocked in a read
        listener.subscribe("channel")
        assert listener.get_message(timeout=5)["data"] == 1
        far.publish("channel", "word")
        assert listener.get_message(timeout=5)["data"] == b"word"
