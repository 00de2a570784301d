"""The drills in short, and that each of them can fail. The long ones: `make chaos-drills`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from story import Story

from chaos.drills import busy, kills, rolling
from chaos.drills.outcome import Outcome
from chaos.drills.running import Running
from chaos.record import Record

ROOT = Path(__file__).resolve().parents[2]
HIT = {"workers": ["w1"], "kills": True}


def drill(tmp_path: Path, *options: str, but_for: str = "nothing") -> dict:
    """The figures of one drill, which must be green `but_for` a figure that so short a run cannot judge."""
    command = [sys.executable, "-m", "chaos.drills", *options, "--keep", str(tmp_path)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
    run = subprocess.run(
        command, cwd=ROOT, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert run.stdout, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert [] == [each for each in figures["broken"] if but_for not in each], run.stdout + run.stderr
    assert bool(figures["broken"]) == (figures["verdict"] == "red") == bool(run.returncode)
    return figures


@pytest.mark.timing
def test_jobs_of_killed_workers_start_again_soon_and_none_is_lost(tmp_path: Path):
    figures = drill(tmp_path, "kills", "--kills", "6", but_for="restart_p50_s")
    assert {"parent": 2, "tree": 2, "child": 2} == figures["by_kind"]
    assert (0, 0, 0) == (figures["lost"], figures["never_restarted"], figures["discarded"])
    assert figures["restarted"] >= 3


@pytest.mark.timing
def test_a_rolling_restart_burns_no_attempt(tmp_path: Path):
    figures = drill(tmp_path, "rolling", "--rounds", "1")
    assert (3, 0, 0, 0) == tuple(figures[name] for name in ("restarts", "burned", "lost", "expired"))


@pytest.mark.drill
def test_a_busy_machine_and_a_redis_that_starts_anew_cost_no_lease(tmp_path: Path):
    figures = drill(tmp_path, "busy", "--minutes", "0.25", "--lease-ms", "4000")
    assert (0, 0, 0) == tuple(figures[name] for name in ("expired", "second_starts", "lost"))


@pytest.mark.drill
def test_everybody_goes_on_by_himself(tmp_path: Path):
    figures = drill(tmp_path, "resume", "--away", "1")
    everybody = {"prefork", "threads", "solo", "gevent", "producer1", "beat1", "ingress"}
    assert everybody == set(figures["after_1_s"]) == set(figures["half_open"])


def killed_at_2(restart_at: float | None) -> Story:
    """A job whose worker is killed at 2.0, and which starts again then, if at all."""
    story = (
        Story().accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0).fault("kill-tree", 2.0, 2.0, **HIT)
    )
    story.move(3.0, "expire", "a", "executing", "available", attempt="1")
    if restart_at is None:
        return story.rest(available=1)
    story.claim("a", restart_at, attempt=2).start("a#1000#2", restart_at, worker="w2").end("a#1000#2", 12.0)
    return story.settle("complete", "a", 12.0, "completed", attempt=2).rest()


def test_a_restart_is_counted_from_the_kill():
    outcome = kills.judge(killed_at_2(3.5).history, {"tree": 1})
    assert [] == outcome.broken
    assert (1, 0, 1.5) == tuple(
        outcome.figures[name] for name in ("restarted", "never_restarted", "restart_p50_s")
    )


def test_a_restart_that_comes_late_is_told():
    outcome = kills.judge(killed_at_2(8.0).history, {"tree": 1})
    assert [
        "restart_p50_s is 6.0, and 2.0 is promised",
        "restart_p99_s is 6.0, and 5.0 is promised",
    ] == outcome.broken


def test_a_job_that_never_starts_again_is_told():
    outcome = kills.judge(killed_at_2(None).history, {"tree": 1})
    assert 1 == outcome.figures["never_restarted"]
    assert "never_restarted is 1, and 0 is promised" in outcome.broken
    assert any("STRANDED" in sentence for sentence in outcome.broken)


def test_a_kill_that_interrupts_nothing_proves_nothing():
    story = Story().run("a", 1.0, 1.5).fault("kill-tree", 2.0, 2.0, **HIT).fault("kill-tree", 3.0, 3.0, **HIT)
    outcome = kills.judge(story.rest().history, {"tree": 2})
    assert "restarted is 0: the drill needs 1 to prove anything" in outcome.broken


def twice(verb: str) -> Story:
    """A job that starts twice although nobody was killed."""
    story = Story().accept("a", 1.0).claim("a", 1.0).start("a#1000#1", 1.0)
    story.move(2.0, verb, "a", "executing", "available", attempt="1")
    story.claim("a", 2.5, attempt=2).start("a#1000#2", 2.5, worker="w2").end("a#1000#2", 3.0)
    return story.settle("complete", "a", 3.0, "completed", attempt=2).rest()


def test_a_start_that_a_restart_wasted_is_told():
    outcome = rolling.judge(twice("release").history, Outcome("rolling"))
    assert "burned is 1, and 0 is promised" in outcome.broken
    assert 0 == outcome.figures["expired"]


def test_a_lease_that_a_busy_machine_lost_is_told():
    outcome = busy.judge(twice("expire").history, Outcome("busy"))
    assert "expired is 1, and 0 is promised" in outcome.broken
    assert "second_starts is 1, and 0 is promised" in outcome.broken


def test_an_idle_drill_proves_nothing():
    outcome = busy.judge(Story().rest().history, Outcome("busy"))
    assert ["starts is 0: the drill needs 1 to prove anything"] == outcome.broken
    assert "red" == outcome.to_wire()["verdict"]


def test_a_history_is_followed_while_it_is_written(tmp_path: Path):
    record = Record(tmp_path / "history.jsonl")
    running = Running(tmp_path / "history.jsonl")
    record.note("start", tag="a#1#2", family="lasting", worker="w1", pid=7)
    record.note("start", tag="b#1#1", family="lasting", worker="w2", pid=8)
    assert ["start", "start"] == [line["kind"] for line in running.look()]
    assert [("a#1#2", 2)] == [(run.tag, run.attempt) for run in running.of("w1")]
    record.note("end", tag="a#1#2")
    with (tmp_path / "history.jsonl").open("ab") as torn:
        torn.write(b'{"kind":"sta')
    running.look()
    assert [] == running.of("w1")
    assert 1 == len(running.of("w2"))
    running.close()
    record.close()
