"""The supervisor with real processes: order, restarts, stopping."""

import signal

from tests.fleet.driven import is_gone, kill, stays

#: Deaf to TERM, with a child in its group that is as deaf.
DEAF = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf = "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
inner = subprocess.Popen([sys.executable, "-c", deaf])
print("inner", inner.pid)
print("here")
while True: time.sleep(60)
"""


def test_nothing_starts_before_the_foundation_is_ready(drive):
    slow = "import time; time.sleep(0.4); print('open'); time.sleep(60)"
    fleet = drive(
        {"name": "base", "code": slow, "stage": 0, "ready_line": "open"},
        stays("first", stage=1),
        stays("second", stage=2),
    )
    fleet.says("all ready")
    spoken = [line for line in fleet.lines if " said " in line]
    assert spoken[0] == "base said open"
    assert sorted(spoken[1:]) == ["first said here", "second said here"]


def test_the_highest_stage_stops_first_and_the_exit_code_is_0(drive):
    fleet = drive(stays("base", stage=0), stays("worker", stage=1), stays("door", stage=2))
    fleet.says("all ready")
    assert fleet.stop() == 0
    stopped = [line for line in fleet.lines if line.endswith(" stopped")]
    assert stopped == ["door stopped", "worker stopped", "base stopped"]
    assert fleet.count("said bye") == 3
    assert not (fleet.home / "fleet.pids").exists()


def test_ctrl_c_stops_it_as_cleanly(drive):
    fleet = drive(stays("worker"))
    fleet.says("all ready")
    assert fleet.stop(signal.SIGINT) == 0
    assert fleet.count("worker said bye") == 1


def test_exit_code_143_after_a_stop_is_clean(drive):
    code = (
        "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(143)); print('here'); time.sleep(60)"
    )
    fleet = drive({"name": "server", "code": code, "ready_line": "here"})
    fleet.says("all ready")
    assert fleet.stop() == 0
    assert fleet.count("server stopped") == 1


def test_a_killed_child_is_started_again_and_the_others_are_left_alone(drive):
    fleet = drive(stays("worker"), stays("other"))
    fleet.says("all ready")
    worker, other = fleet.pid("worker"), fleet.pid("other")
    kill(worker)
    fleet.says("worker ended with signal SIGKILL; starting again in 0.05 s")
    fleet.says("worker ready", times=2)
    assert fleet.pid("worker") not in {None, worker}
    assert fleet.pid("other") == other
    assert fleet.count("all ready") == 1


def test_a_crash_loop_is_slowed_down_up_to_the_cap(drive):
    fleet = drive(
        {"name": "broken", "code": "print('here'); raise SystemExit(7)", "ready_line": "here"},
        patience={"restart_base_s": 0.02, "restart_cap_s": 0.08},
    )
    fleet.says("broken ended with exit code 7", times=5)
    delays = [line.split("again in ")[1] for line in fleet.lines if "again in" in line][:5]
    assert delays == ["0.02 s", "0.04 s", "0.08 s", "0.08 s", "0.08 s"]


def test_after_a_healthy_time_the_delay_begins_anew(drive):
    fleet = drive(
        {"name": "unsteady", "code": "print('here'); raise SystemExit(7)", "ready_line": "here"},
        patience={"restart_base_s": 0.02, "healthy_s": 0.0},
    )
    fleet.says("unsteady ended", times=4)
    delays = {line.split("again in ")[1] for line in fleet.lines if "again in" in line}
    assert delays == {"0.02 s"}


def test_a_process_that_ends_before_it_is_ready_ends_the_start_with_its_last_words(drive):
    fleet = drive(
        stays("base", stage=0),
        {"name": "bad", "code": "raise RuntimeError('no such queue')", "ready_line": "here"},
        stays("good"),
    )
    assert fleet.ended() == 3
    told = "\n".join(fleet.lines)
    assert "refused: bad ended with exit code 1 before it was ready" in told
    assert "RuntimeError: no such queue" in told.split("refused:")[1]
    assert "base stopped" in fleet.lines
    assert "all ready" not in fleet.lines


def test_a_program_that_does_not_exist_is_named(drive):
    fleet = drive({"name": "ghost", "argv": ["/no/such/program"]})
    assert fleet.ended() == 3
    assert "/no/such/program" in "\n".join(fleet.lines)


def test_a_process_that_never_becomes_ready_is_named_and_everything_stops(drive):
    silent = {"name": "silent", "code": "import time; time.sleep(60)", "ready_line": "here"}
    fleet = drive(stays("good"), silent, patience={"ready_s": 0.5})
    assert fleet.ended() == 3
    assert fleet.count("refused: not ready within 0.5 s: silent") == 1
    assert fleet.count("good stopped") == 1


def test_a_stop_during_the_start_is_a_clean_stop(drive):
    silent = {"name": "silent", "code": "import time; print('up'); time.sleep(60)", "ready_line": "here"}
    fleet = drive(silent)
    fleet.says("silent said up")
    assert fleet.stop() == 0
    assert "all ready" not in fleet.lines


def test_what_does_not_stop_in_time_is_killed_with_its_group_and_the_exit_code_says_so(drive):
    fleet = drive({"name": "deaf", "code": DEAF, "ready_line": "here"}, patience={"grace_s": 0.3})
    fleet.says("all ready")
    inner = int(next(line for line in fleet.lines if "inner" in line).split()[-1])
    deaf = fleet.pid("deaf")
    assert fleet.stop() == 1
    assert fleet.count("deaf killed") == 1
    assert is_gone(deaf)
    assert is_gone(inner)


def test_a_second_signal_does_not_wait_but_the_foundation_is_still_asked_politely(drive):
    fleet = drive(
        stays("base", stage=0),
        {"name": "deaf", "code": DEAF, "ready_line": "here"},
        patience={"hurried_s": 0.2},
    )
    fleet.says("all ready")
    fleet.process.send_signal(signal.SIGTERM)
    fleet.says("fleet stopping")
    assert fleet.stop() == 1
    assert fleet.count("deaf killed") == 1
    assert fleet.count("base said bye") == 1
    assert fleet.count("base stopped") == 1


def test_the_last_signal_gives_a_process_the_chance_to_hand_back_its_work(drive):
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, lambda *_: (print("handed back"), sys.exit(0)))
print("here")
while True: time.sleep(60)
"""
    fleet = drive(
        {"name": "worker", "code": code, "ready_line": "here", "last_signal": int(signal.SIGQUIT)},
        patience={"grace_s": 0.2},
    )
    fleet.says("all ready")
    assert fleet.stop() == 0
    assert fleet.count("worker said handed back") == 1
    assert fleet.count("worker stopped") == 1


def test_when_a_leader_dies_its_group_does_not_live_on(drive):
    fleet = drive({"name": "pool", "code": DEAF, "ready_line": "here"}, patience={"grace_s": 0.1})
    fleet.says("all ready")
    inner = int(next(line for line in fleet.lines if "inner" in line).split()[-1])
    kill(fleet.pid("pool"))
    fleet.says("pool ready", times=2)
    assert is_gone(inner)


def test_every_line_is_in_the_log_file_even_the_last_without_an_end(drive):
    code = "import sys; print('here'); sys.stdout.write('x' * 200_000 + '\\ncut')"
    fleet = drive({"name": "wordy", "code": code, "ready_line": "here"}, patience={"restart_cap_s": 60})
    fleet.says("wordy said cut")
    fleet.stop()
    logged = (fleet.home / "logs/wordy.log").read_text()
    assert logged.startswith("here\n")
    assert logged.count("x") >= 200_000
    assert "cut\n" in logged
