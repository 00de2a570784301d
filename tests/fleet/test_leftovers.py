"""One fleet per home; what a killed one leaves behind is ended by the next."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.home import FleetHome
from joelclaw_tasks.fleet.leftovers import Recorded, end_leftovers, group_members, record, start_mark
from tests.conftest import free_port, wait_until
from tests.fleet.driven import is_gone, stays

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]

LEAVES_A_FILE = """
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path(sys.argv[1]).touch(); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("x", flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper():
    process = subprocess.Popen(SLEEP, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def recorded(process, **changes):
    entry = {"name": "worker", "pid": process.pid, "started": start_mark(process.pid), "stage": 1}
    return Recorded(**{**entry, **changes})


def test_a_second_fleet_on_the_same_home_is_refused_with_the_process_that_runs(drive):
    first = drive(stays("worker"))
    first.says("all ready")
    pid = first.pid("worker")
    second = drive(stays("worker"))
    assert second.ended() == 3
    assert second.count(rf"refused: a fleet already runs on .*home \(process {first.process.pid}\)") == 1
    assert first.pid("worker") == pid
    assert first.process.poll() is None


def test_another_home_is_another_fleet(drive, tmp_path):
    first, second = drive(stays("worker")), drive(stays("worker"), home=tmp_path / "other")
    first.says("all ready")
    second.says("all ready")


def test_children_die_with_a_parent_that_is_killed(drive):
    fleet = drive(stays("worker"), stays("other"))
    fleet.says("all ready")
    pids = [fleet.pid("worker"), fleet.pid("other")]
    fleet.process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), "the children end")


def test_after_kill_9_the_next_fleet_ends_what_was_left_and_starts(drive):
    # Deaf to TERM, so it outlives the signal that it gets when its parent dies.
    deaf = "import signal,time; signal.signal(15, signal.SIG_IGN); print('here'); time.sleep(60)"
    fleet = drive({"name": "deaf", "code": deaf, "ready_line": "here"})
    fleet.says("all ready")
    left = fleet.pid("deaf")
    fleet.process.kill()
    fleet.process.wait()
    assert not is_gone(left)
    # As the next start does it, with less patience.
    assert end_leftovers(fleet.home / "fleet.pids", grace_s=0.2) == ["deaf"]
    assert is_gone(left)
    again = drive(stays("deaf"))
    again.says("all ready")
    assert again.pid("deaf") not in {None, left}


def test_a_left_over_process_gets_the_chance_to_end_cleanly(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVES_A_FILE, str(tmp_path / "clean")],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    with process:
        process.stdout.read(1)
        record(tmp_path / "pids", [recorded(process)])
        assert end_leftovers(tmp_path / "pids") == ["worker"]
        assert (tmp_path / "clean").exists()
    assert not (tmp_path / "pids").exists()


def test_a_process_that_only_has_the_same_number_is_left_alone(tmp_path, sleeper):
    record(tmp_path / "pids", [recorded(sleeper, started="another-boot:12345")])
    assert end_leftovers(tmp_path / "pids") == []
    assert sleeper.poll() is None


def test_the_group_of_a_dead_leader_is_ended_too(tmp_path):
    script = f"import subprocess as s, time; print(s.Popen({SLEEP!r}).pid, flush=True); time.sleep(60)"
    leader = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    with leader:
        member = int(leader.stdout.readline())
        entry = recorded(leader)
        leader.kill()
        leader.wait()
        assert group_members(leader.pid) == [member]
        record(tmp_path / "pids", [Recorded(entry.name, entry.pid, "another-boot:1", 1)])
        assert end_leftovers(tmp_path / "pids") == []
        assert not is_gone(member)
        record(tmp_path / "pids", [entry])
        assert end_leftovers(tmp_path / "pids") == ["worker"]
        wait_until(lambda: is_gone(member), "the member is gone")


def test_higher_stages_are_ended_first(tmp_path):
    def start():
        return subprocess.Popen(SLEEP, start_new_session=True)

    base, door = start(), start()
    record(tmp_path / "pids", [recorded(base, name="base", stage=0), recorded(door, name="door", stage=2)])
    assert end_leftovers(tmp_path / "pids") == ["door", "base"]
    assert {base.wait(), door.wait()} == {-signal.SIGTERM}


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"pid": 1}]'])
def test_a_record_that_is_no_record_ends_nothing(tmp_path, text):
    (tmp_path / "pids").write_text(text)
    assert end_leftovers(tmp_path / "pids") == []
    assert not (tmp_path / "pids").exists()


def test_a_zombie_counts_as_gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: is_gone(process.pid), "it ends, unreaped")
    process.wait()


def test_a_hold_ends_with_its_block_and_leaves_no_descriptor_to_children(tmp_path):
    home = FleetHome(tmp_path / "home")
    with home.hold():
        child = subprocess.Popen(SLEEP)
        with pytest.raises(FleetError, match=f"process {os.getpid()}"), FleetHome(home.path).hold():
            pytest.fail("held twice")
    try:
        with home.hold():
            pass
    finally:
        child.kill()
        child.wait()


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FleetError, match="cannot be used"), FleetHome(tmp_path / "file" / "home").hold():
        pytest.fail("held")


def test_ports_are_remembered_unless_they_are_taken(tmp_path):
    home = FleetHome(tmp_path)
    first = home.choose_ports({"redis": 0, "ingress": 0})
    assert first == home.choose_ports({"redis": 0, "ingress": 0})
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["redis"]))
        other.listen()
        second = home.choose_ports({"redis": 0, "ingress": 0})
        with pytest.raises(FleetError, match=f"port {first['redis']} for ingress is taken"):
            home.choose_ports({"ingress": first["redis"]})
    assert second["redis"] != first["redis"]
    assert second["ingress"] == first["ingress"]


def test_an_asked_port_is_used(tmp_path):
    port = free_port()
    assert FleetHome(tmp_path).choose_ports({"ingress": port}) == {"ingress": port}


@pytest.mark.parametrize("text", ["", "[]", '{"redis": "x"}', '{"redis": 99999999}'])
def test_a_damaged_file_of_ports_is_no_obstacle(tmp_path, text):
    (tmp_path / "ports.json").write_text(text)
    assert 0 < FleetHome(tmp_path).choose_ports({"redis": 0})["redis"] < 65_536


def test_the_state_file_is_private_and_goes_away(tmp_path):
    home = FleetHome(tmp_path)
    home.write_state({"redis_url": "redis://:pw@h/0"})
    assert home.state_file.stat().st_mode & 0o777 == 0o600
    assert home.read_state() == json.loads(home.state_file.read_text())
    home.forget_state()
    assert home.read_state() is None
    assert list(Path(tmp_path).iterdir()) == []
