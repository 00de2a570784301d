"""The embedded Redis: which binary, how it is run, and that it keeps what it accepted."""

import os
import re
import stat
from pathlib import Path

import psutil
import pytest
import redis

from joelclaw_tasks.address import without_password
from joelclaw_tasks.core.promises import ServerPromises
from joelclaw_tasks.errors import CoreUnreachable, FleetError, UnsafeRedis
from joelclaw_tasks.fleet.redis_policy import require_safe
from joelclaw_tasks.fleet.redis_server import find_server, newest_server, prepare
from tests.conftest import free_port, start_redis, wait_until
from tests.fleet.driven import is_gone, kill

NOWHERE = Path("/no/such/server")


def fake_server(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho 'Server v={version} sha=00000000:0'\n")
    path.chmod(0o755)
    return path


def test_the_newest_of_all_servers_is_taken(tmp_path):
    fake_server(tmp_path / "a", "redis-server", "6.2.9")
    newest = fake_server(tmp_path / "b", "valkey-server", "7.10.1")
    fake_server(tmp_path / "b", "redis-server", "7.9.12")
    path = os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), "/no/such/folder"])
    found = newest_server(path, bundled=find_server())
    assert (newest, (7, 10, 1)) == (found.path, found.version)


def test_a_newer_bundled_server_wins_over_an_older_one_on_the_path(tmp_path):
    fake_server(tmp_path / "a", "redis-server", "6.2.0")
    bundled = fake_server(tmp_path / "b", "redis-server", "6.2.14")
    assert bundled == newest_server(str(tmp_path / "a"), bundled=bundled).path


def test_what_is_no_server_is_passed_over(tmp_path):
    broken = fake_server(tmp_path / "a", "redis-server", "9.9.9")
    broken.write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "a" / "valkey-server").mkdir()
    good = fake_server(tmp_path / "b", "redis-server", "6.2.0")
    path = os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")])
    assert good == newest_server(path, bundled=NOWHERE).path


def test_without_a_server_the_error_says_what_to_install(tmp_path):
    with pytest.raises(FleetError, match="no redis-server or valkey-server") as raised:
        newest_server(str(tmp_path), bundled=NOWHERE)
    assert "apt install redis-server" in raised.value.fix
    assert "REDIS_URL" in raised.value.fix


def test_a_server_that_is_too_old_is_refused_with_its_version(tmp_path):
    old = fake_server(tmp_path, "redis-server", "6.0.16")
    with pytest.raises(FleetError, match=re.escape(f"{old} is version 6.0.16; 6.2.0 is the minimum")):
        newest_server(str(tmp_path), bundled=NOWHERE)


def test_data_of_a_newer_server_is_not_silently_ignored(tmp_path):
    (tmp_path / "appendonlydir").mkdir()
    older = newest_server(str(fake_server(tmp_path / "a", "redis-server", "6.2.14").parent), bundled=NOWHERE)
    with pytest.raises(FleetError, match="written by Redis 7 or newer"):
        prepare(tmp_path, 1, older)
    assert not (tmp_path / "redis.conf").exists()


def test_the_password_is_kept_and_is_nowhere_but_in_private_files(tmp_path):
    directory = tmp_path / "redis"
    first, second = prepare(directory, 7001), prepare(directory, 7002)
    assert first.password == second.password
    assert re.fullmatch("[0-9a-f]{48}", first.password)
    assert prepare(tmp_path / "other", 7001).password != first.password
    assert first.password not in repr(first)
    assert not any(first.password in argument for argument in first.argv)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {
        "password": 0o600,
        "redis.conf": 0o600,
    }


def test_a_directory_with_spaces_and_quotes_in_its_name_works(drive, tmp_path):
    fleet = drive(redis=True, home=tmp_path / 'my "own" home\\here')
    fleet.says("all ready")
    assert (fleet.home / "redis" / "appendonly.aof").exists() or (fleet.home / "redis/appendonlydir").exists()


def test_it_answers_only_who_knows_the_password_and_only_on_loopback(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    url = (fleet.home / "url").read_text()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        assert client.ping()
        names = ("bind", "maxmemory-policy", "appendonly", "appendfsync", "save", "hash-max-ziplist-value")
        assert {name: client.config_get(name)[name] for name in names} == {
            "bind": "127.0.0.1",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "hash-max-ziplist-value": "8192",
        }
        for command in ("MODULE LIST", "DEBUG JMAP", "REPLICAOF NO ONE"):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(*command.split())
    port = int(url.split(":")[-1].split("/")[0])
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_everything_it_writes_is_private(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    with redis.Redis.from_url((fleet.home / "url").read_text()) as client:
        client.set("key", "value")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in fleet.home.rglob("*") if path.name != "url"}
    shared = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert shared == {}
    assert stat.S_IMODE(fleet.home.stat().st_mode) == 0o700


def test_no_password_is_in_any_argument_list(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    password = (fleet.home / "redis/password").read_text().strip()
    arguments = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any("redis-server" in line for line in arguments)
    assert [line for line in arguments if password in line] == []
    assert password not in "\n".join(fleet.lines)
    assert all(password not in log.read_text() for log in (fleet.home / "logs").iterdir())


def test_data_survives_kill_9_of_redis_and_the_port_stays(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    with redis.Redis.from_url((fleet.home / "url").read_text(), retry=None) as client:
        for number in range(500):
            client.rpush("kept", number)
        kill(fleet.pid("redis"))
        fleet.says("redis ready", times=2)
        assert client.llen("kept") == 500


def test_data_survives_a_stop_and_a_new_start(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    with redis.Redis.from_url((fleet.home / "url").read_text()) as client:
        client.set("kept", "yes")
    assert fleet.stop() == 0
    again = drive(redis=True)
    again.says("all ready")
    with redis.Redis.from_url((again.home / "url").read_text()) as client:
        assert client.get("kept") == b"yes"


def test_redis_is_stopped_cleanly_when_its_parent_is_killed(drive):
    fleet = drive(redis=True)
    fleet.says("all ready")
    pid = fleet.pid("redis")
    with redis.Redis.from_url((fleet.home / "url").read_text()) as client:
        client.set("kept", "yes")
    fleet.process.kill()
    wait_until(lambda: is_gone(pid), "redis ends with its parent")
    again = drive(redis=True)
    again.says("all ready")
    with redis.Redis.from_url((again.home / "url").read_text()) as client:
        assert client.get("kept") == b"yes"


def test_a_redis_that_evicts_is_refused_with_the_command_that_helps(tmp_path):
    port = free_port()
    server = start_redis(tmp_path, port, "--maxmemory-policy", "allkeys-lru")
    try:
        with redis.Redis(port=port) as client:
            client.config_set("requirepass", "sesame")
        with pytest.raises(UnsafeRedis, match="maxmemory-policy is allkeys-lru") as raised:
            require_safe(f"redis://:sesame@127.0.0.1:{port}/0")
        assert "CONFIG SET maxmemory-policy noeviction" in raised.value.fix
        assert "sesame" not in str(raised.value)
        with redis.Redis(port=port, password="sesame") as client:
            client.config_set("maxmemory-policy", "noeviction")
        assert require_safe(f"redis://:sesame@127.0.0.1:{port}/0").append_only is False
        with pytest.raises(CoreUnreachable) as refused:
            require_safe(f"redis://:wrong@127.0.0.1:{port}/0")
        assert "wrong@" not in str(refused.value)
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/0", "redis://127.0.0.1:1/0", "redis://:pw@127.0.0.1:1/x"]
)
def test_a_url_that_leads_nowhere_is_a_clear_error(url):
    with pytest.raises(CoreUnreachable, match="does not answer") as raised:
        require_safe(url)
    assert "pw@" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("redis://me:s@cr@h:1/0?x=1", "redis://me:***@h:1/0?x=1"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert shown == without_password(url)


@pytest.mark.parametrize(
    ("flavour", "version", "hole"),
    [
        ("redis", (6, 2, 14), True),
        ("redis", (6, 2, 20), False),
        ("redis", (7, 0, 15), True),
        ("redis", (7, 4, 5), True),
        ("redis", (8, 2, 2), False),
        ("redis", (8, 4, 0), False),
        ("valkey", (8, 1, 3), True),
        ("valkey", (8, 1, 4), False),
        ("valkey", (9, 0, 0), False),
    ],
)
def test_versions_with_the_known_lua_hole_are_told_apart(flavour, version, hole):
    promises = ServerPromises(flavour, version, "noeviction", append_only=True, now_ms=0)
    assert hole == promises.has_lua_hole
