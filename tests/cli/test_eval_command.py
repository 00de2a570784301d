"""joelclaw eval: a quick one reaches what is wanted, and one that is interrupted leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from joelclaw_tasks.cli.evaluate import _view
from joelclaw_tasks.evaluation.fault import FaultKind
from tests.cli.conftest import PROGRAM, JoelclawProcess, Piped
from tests.conftest import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Piped:
    """Without a key, a network and a fleet."""
    return JoelclawProcess(tmp_path_factory.mktemp("home"), None)("eval", "--quick", "--seed", "1")


def test_a_quick_evaluation_reaches_what_is_wanted(quick: Piped):
    assert 0 == quick.code
    observer, triage = quick.result["observer"], quick.result["triage"]

    assert [True] * 6 == [each["reached"] for each in quick.result["wanted"]]
    assert 0.6 <= observer["static"]["cut"]
    assert observer["static"]["regret"] < observer["nothing"]["regret"]
    assert (0, 0) == (observer["static"]["false_pauses"], observer["static"]["false_pauses_without_fault"])
    assert {0} == {observer[name]["forbidden_applied"] for name in ("nothing", "static", "scripted")}
    assert 100 < observer["scripted"]["forbidden_proposed"]
    assert (200, 0) == (triage["injections"], triage["injections_outside_band"])
    assert 0.7 < triage["tau"] < 1
    assert 150 < triage["injections_moved"]
    assert (None, None, None) == (observer["live"], triage["live"], quick.result["day"])
    assert (1, None) == (quick.result["diagnosis"]["grounded"], quick.result["diagnosis"]["live"])


def test_there_is_a_world_of_each_kind_with_a_line_for_each_operator(quick: Piped):
    worlds = quick.result["observer"]["worlds"]
    assert [kind.value for kind in FaultKind] == [world["kind"] for world in worlds]
    assert all({"world", "jobs", "oracle", "nothing", "static"} <= set(world) for world in worlds)
    assert ["downstream_outage"] == [world["kind"] for world in worlds if "scripted" in world]
    assert all(world["nothing"]["regret"] >= 0 for world in worlds)
    assert ["joelclaw eval --seed 1"] == [each.partition(" --home")[0] for each in quick.next_commands]


def test_on_a_terminal_it_is_a_table_of_operators_and_one_of_worlds(quick: Piped):
    console = Console(file=StringIO(), width=140)
    _view(quick.result)(console)
    seen: Any = console.file
    lines = [line.strip() for line in seen.getvalue().splitlines()]

    [static] = [line.split() for line in lines if line.startswith("static")]
    assert "11" == static[1]
    assert f"{quick.result['observer']['static']['cut']:.0%}" in static
    assert 11 == sum(line.split()[0].endswith("-1000") for line in lines if line.split())
    assert 6 == sum(line.startswith("reached") for line in lines)
    assert any("0 of 200 events that beg left their band" in line for line in lines)


def test_live_without_a_key_is_refused_before_anything_is_played(joelclaw_offline: JoelclawProcess):
    done = joelclaw_offline("eval", "--live")
    assert (1, "EVAL_NO_KEY") == (done.code, done.error["code"])
    assert "ANTHROPIC_API_KEY" in done.envelope["fix"]

    joelclaw_offline.env |= {"ANTHROPIC_API_KEY": "some", "JOELCLAW_USE_MODELS": "0"}
    assert "switched off" in joelclaw_offline("eval", "--live").error["message"]


@pytest.mark.parametrize(
    "options", [("--worlds", "0"), ("--worlds", "1001"), ("--seed", "-1"), ("--seed", "x")]
)
def test_options_that_mean_nothing_are_refused(joelclaw_offline: JoelclawProcess, options: tuple[str, str]):
    done = joelclaw_offline("eval", *options)
    assert (2, "USAGE") == (done.code, done.error["code"])


def test_ctrl_c_ends_it_at_once_and_leaves_no_process_and_no_file(
    joelclaw_offline: JoelclawProcess, tmp_path: Path
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = joelclaw_offline.env | {"TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [*PROGRAM, "eval", "--worlds", "50"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    started: list[psutil.Process] = []

    def servers() -> int:
        started[:] = psutil.Process(process.pid).children(recursive=True)
        return sum("redis-server" in each.name() for each in started if each.is_running())

    wait_until(lambda: servers() >= 2, "worlds are played", 60)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)

    assert 130 == process.returncode
    assert "INTERRUPTED" == json.loads(out)["error"]["code"]
    wait_until(lambda: not any(each.is_running() for each in started), "all its processes are gone", 20)
    assert [] == [path.name for path in scratch.iterdir() if path.name.startswith("joelclaw-")]
