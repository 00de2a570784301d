"""Throw-away Redis servers."""

from __future__ import annotations

import pytest
import redis

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.testing.server import free_port, redis_server, start_redis


def test_a_server_is_empty_and_gone_after_its_block():
    with redis_server() as url:
        client = redis.Redis.from_url(url)
        assert 0 == client.dbsize()
        assert "noeviction" == client.config_get("maxmemory-policy")["maxmemory-policy"]
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.close()


def test_a_port_that_another_server_has_is_not_taken_for_ours(tmp_path, redis_url):
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(FleetError, match=f"port {port} does not answer"):
        start_redis(tmp_path, port)


def test_flags_say_what_is_different(tmp_path):
    port = free_port()
    server = start_redis(tmp_path, port, "--appendonly", "yes")
    with redis.Redis(port=port) as client:
        assert "yes" == client.config_get("appendonly")["appendonly"]
    server.terminate()
    server.wait(10)
