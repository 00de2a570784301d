"""Real workers and a real watcher: from an edit to its report, and rules that change meanwhile."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from joelclaw_tasks.fleet.processes import fleet_processes
from tests.conftest import wait_until
from tests.watch.conftest import ADR, ROOT, Fleet, _end


def test_an_edit_is_validated_and_a_changed_rule_acts_in_every_worker_without_a_restart(fleet: Fleet) -> None:
    watcher = fleet.watch()
    source = "import os\ndef check(document): yield 1, '{} ' + str(os.getppid())\n"

    def seen_by_all(version: str) -> set[str]:
        """Edit until a thread of one worker and a process of the other said so."""
        fleet.rule("who", source.format(version))
        pids: set[str] = set()
        edits = 0

        def both() -> bool:
            nonlocal edits
            edits += 1
            names = [f"notes/{number}.md" for number in range(8)]
            text = f"# {version} {edits}\n"
            for name in names:
                fleet.write(name, text)
            for name in names:
                wait_until(lambda name=name: fleet.findings(name, "who") and _is(fleet, name, text), name, 20)
                said, pid = fleet.findings(name, "who")[0].split()
                assert version == said  # never an older one
                pids.add(pid)
            return str(fleet.threads_pid) in pids and len(pids) > 1  # type: ignore[attr-defined]

        wait_until(both, f"{version} ran in both workers", 30)
        return pids

    first = seen_by_all("one")
    second = seen_by_all("two")
    fleet.rule("who", "def check(:")
    fleet.write("notes/0.md", "# with a broken rule\n")
    wait_until(lambda: _is(fleet, "notes/0.md", "# with a broken rule\n"), "validated", 20)

    assert "two" == fleet.findings("notes/0.md", "who")[0].split()[0]
    assert [{"name": "who", "status": "kept", "error": "line 1: invalid syntax"}] == (
        fleet.report("notes/0.md")["rules"]
    )
    assert str(fleet.threads_pid) in first & second  # type: ignore[attr-defined]
    assert watcher.poll() is None
    _end(watcher)
    assert 0 == watcher.returncode


def test_a_rule_that_loops_delays_one_report_and_hides_no_other_finding(fleet: Fleet) -> None:
    watcher = fleet.watch()
    fleet.rule("who", "def check(document): yield 1, 'sound'")
    fleet.rule("loop", "def check(document):\n while 'loop' in document.text: pass\n return []")

    fleet.write("adr/0009-loops.md", ADR.format(number="0008", text="loop"))
    wait_until(lambda: fleet.report("adr/0009-loops.md"), "the report", 20)
    fleet.write("adr/0010-sound.md", ADR.format(number="0010", text="sound"))
    wait_until(lambda: fleet.report("adr/0010-sound.md"), "the report", 20)

    assert ["sound"] == fleet.findings("adr/0009-loops.md", "who")
    assert ["the rule loop did not end within 0.5 s"] == fleet.findings("adr/0009-loops.md", "rule.timeout")
    assert ["the title says 0008, the file name 0009"] == fleet.findings("adr/0009-loops.md", "adr.number")
    assert [] == fleet.findings("adr/0010-sound.md", "rule.timeout")
    (fleet.rules / "loop.py").unlink()
    _end(watcher)


def test_a_watcher_killed_between_a_change_and_its_event_tells_it_when_it_is_back(fleet: Fleet) -> None:
    fleet.write("notes/killed.md", "before")
    watcher = fleet.watch()
    wait_until(lambda: _is(fleet, "notes/killed.md", "before"), "the first content", 20)
    _end(watcher)
    watcher = fleet.watch(JOELCLAW_WATCH_QUIET_MS="60000")
    fleet.write("notes/killed.md", "after")
    fleet.write("notes/bad.md", "---\na: [\n---\n")
    (fleet.content / "notes/latin.md").write_bytes(b"caf\xe9\n")
    watcher.send_signal(signal.SIGKILL)
    watcher.wait(10)
    assert _is(fleet, "notes/killed.md", "before")

    watcher = fleet.watch()

    wait_until(lambda: _is(fleet, "notes/killed.md", "after"), "the report of what changed meanwhile", 20)
    wait_until(lambda: fleet.findings("notes/bad.md", "frontmatter.malformed"), "malformed", 20)
    wait_until(lambda: fleet.findings("notes/latin.md", "file.encoding"), "not UTF-8", 20)
    _end(watcher)
    assert 0 == watcher.returncode


def test_watch_once_tells_what_changed_and_a_second_watcher_is_refused(fleet: Fleet) -> None:
    program = [sys.executable, "-m", "joelclaw_tasks.cli.app", "watch"]

    def run(*arguments: str) -> dict:
        done = subprocess.run(
            [*program, *arguments], env=fleet.env, cwd=ROOT, capture_output=True, check=False
        )
        return json.loads(done.stdout)

    run("--once")
    fleet.write("notes/once.md", "# Once\n")

    assert (1, 0) == (run("--once")["result"]["emitted"], run("--once")["result"]["emitted"])

    watcher = fleet.watch()
    assert "WATCH_RUNNING" == run()["error"]["code"]
    _end(watcher)


def test_up_runs_the_watcher_when_folders_are_set(tmp_path: Path) -> None:
    def names(**wanted: bool) -> list[str]:
        specs = fleet_processes(redis=None, ingress_port=1, flower_port=None, state_dir=tmp_path, **wanted)
        return [spec.name for spec in specs]

    assert [*names(), "watch"] == names(with_watch=True)


@pytest.mark.timing
def test_a_hundred_edits_of_a_real_decision_are_each_reported_within_a_second(fleet: Fleet) -> None:
    source = (ROOT / "docs/decisions/0012-a-look-has-its-own-process.md").read_text()
    fleet.rule("who", "def check(document):\n if 'never' in document.body: yield 1, 'never'")
    watcher = fleet.watch()
    name = "decisions/0012-a-look-has-its-own-process.md"
    took_ms = []

    def edit(number: int) -> None:
        text = f"{source}\n{number}\n"
        began = time.monotonic()
        fleet.write(name, text)
        wait_until(lambda: _is(fleet, name, text), "the report of the edit", 20)
        took_ms.append(1_000 * (time.monotonic() - began))

    for number in range(3):  # each process of a pool starts its process of rules once
        edit(-number)
    took_ms.clear()
    for number in range(1, 101):
        edit(number)
    _end(watcher)

    took_ms.sort()
    print(f"p50 {took_ms[49]:.0f} ms, p95 {took_ms[94]:.0f} ms, most {took_ms[-1]:.0f} ms")
    assert took_ms[94] < 1_000
    assert took_ms[-1] < 5_000


def _is(fleet: Fleet, name: str, text: str) -> bool:
    return fleet.report(name).get("sha256") == hashlib.sha256(text.encode()).hexdigest()
