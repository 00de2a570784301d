"""A week of the pulse with real beat, worker and processes, on a clock that is moved from look to look.

`make chaos-drills` runs it: it takes some minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.core.health import Health
from joelclaw_tasks.core.health_report import report_of
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, start_redis, wait_until

ROOT = Path(__file__).parents[2]
PERIOD_S, DAY_S, DAYS = 4 * 3_600, 86_400, 7
LOOKS = DAYS * DAY_S // PERIOD_S
NAMES = ("steady", "crash", "hang", "segfault")
#: The whole of day 1 it crashes, of day 3 it segfaults; on day 5 two looks hang.
CHECKS = """
import ctypes, pathlib, time
BEGAN = int((pathlib.Path(__file__).parent / "began").read_text())
def day(): return int((time.time() - BEGAN) // 86400)
def look(): return int((time.time() - BEGAN) % 86400 // 14400)
def steady(): pass
def crash():
    if day() == 1: raise RuntimeError("boom")
def segfault():
    if day() == 3: ctypes.string_at(0)
def hang():
    if day() == 5 and look() in (2, 3): time.sleep(600)
"""


class Week:
    """The fleet of one week. `move_to` sets the clock of all its processes."""

    def __init__(self, home: Path, library: Path) -> None:
        self.home, self._offset = home, home / "offset"
        self._offset.write_bytes(bytes(8))
        self.began = (int(time.time()) // DAY_S + 1) * DAY_S
        (home / "began").write_text(str(self.began))
        (home / "week_checks.py").write_text(CHECKS)
        (home / "events").mkdir()
        shipped = ROOT / "registry/events/discovery-noted.json"
        (home / "events" / shipped.name).write_text(shipped.read_text())
        checks = {
            name: {"kind": "python", "target": f"week_checks:{name}", "timeout_s": 0.5, "every_s": PERIOD_S}
            for name in NAMES
        }
        (home / "health.json").write_text(json.dumps({"checks": checks}))
        self.clock = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._offset)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, url: str) -> None:
        settings = Settings(redis_url=url, home=self.home, registry_dir=self.home)
        self.store = Store.connect(settings)
        self.health = Health(self.store)
        env = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        env |= self.clock | {
            "REDIS_URL": url, "PYTHONPATH": f"{ROOT}:{self.home}", "JOELCLAW_HOME": str(self.home),
            "JOELCLAW_REGISTRY_DIR": str(self.home),
        }  # fmt: skip
        beat = f"{self.home / 'beat'} -l INFO"
        for number, command in enumerate((
            "worker -P threads -c 8 -Q io,default -l INFO --without-gossip",
            f"beat -S joelclaw_tasks.fleet.beat:FleetScheduler --max-interval 1 --pidfile= -s {beat}",
        )):  # fmt: skip
            log = self.home / f"log-{number}"
            with log.open("ab") as out:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "celery", "-A", "joelclaw_tasks", *command.split()],
                        env=env,
                        cwd=ROOT,
                        stdout=out,
                        stderr=out,
                    )
                )
            word = (b" ready.", b"beat: Starting...")[number]
            wait_until(lambda log=log, word=word: word in log.read_bytes(), f"{command} is ready", 60)

    def move_to(self, moment: float) -> None:
        offset_s = round(moment - time.time())
        with self._offset.open("r+b") as shared:
            shared.write(offset_s.to_bytes(8, "little", signed=True))

    def late_ms(self, due_ms: int) -> list[int]:
        """How long after it was due the steady check was sent, and how long it then waited to start."""
        entries = [
            entry
            for entry in self.store.history.read(since_at=due_ms - 1_000, verbs=("admit", "claim"))
            if entry.family == "health.steady" and entry.to_state
        ]
        return [entry.at - due_ms if entry.verb == "admit" else entry.wait_ms or 0 for entry in entries]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(20)
        self.store.client.close()


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    library = tmp_path / "clock.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(ROOT / "tests/broker/clock.c")], check=True
    )
    week = Week(tmp_path, library)
    port = free_port()
    with monkeypatch.context() as patch:
        for name, value in week.clock.items():
            patch.setenv(name, value)
        server = start_redis(tmp_path, port)
    week.move_to(week.began - 60)
    week.start(f"redis://127.0.0.1:{port}/0")
    yield week
    week.end()
    server.terminate()
    server.wait(10)


def looked(week: Week, due_ms: int) -> Callable[[], bool]:
    """Whether all four have looked since then."""

    def all_did() -> bool:
        found = week.health.checks(list(NAMES))
        return len(found) == 4 and all(each.checked_at >= due_ms for each in found.values())

    return all_did


@pytest.mark.drill
@pytest.mark.timeout(1_200)
def test_in_a_week_each_wild_check_starts_again_alone_and_the_report_is_right(week: Week) -> None:
    late_ms: list[int] = []
    for number in range(LOOKS):
        due = week.began + number * PERIOD_S
        week.move_to(due - 2)
        wait_until(looked(week, due * 1_000), f"look {number} of the week is kept", 60)
        late_ms += week.late_ms(due * 1_000)
    until_at = week.health.now_ms()

    reports = {
        name: report_of(
            name, week.health.turns(name, 0), week.health.hours(name, 0), check,
            since_at=until_at - DAYS * DAY_S * 1_000, until_at=until_at,
        )
        for name, check in week.health.checks(list(NAMES)).items()
    }  # fmt: skip
    print(f"late: {max(late_ms)} ms at most of {len(late_ms) // 2} looks")
    assert 2 * LOOKS == len(late_ms)
    assert max(late_ms) < 1_000
    assert {
        "steady": (LOOKS, 0, 0, 0), "crash": (LOOKS, 6, 12, 1), "segfault": (LOOKS, 6, 12, 1),
        "hang": (LOOKS, 2, 4, 1),
    } == {
        name: (report.looks, report.bad_looks, report.restarts, len(report.incidents))
        for name, report in reports.items()
    }  # fmt: skip
    assert 1.0 == reports["steady"].uptime
    days = {name: (reports[name].incidents[0].from_at // 1_000 - week.began) // DAY_S for name in NAMES[1:]}
    assert {"crash": 1, "hang": 5, "segfault": 3} == days
    assert all(not report.incidents or report.incidents[0].until_at for report in reports.values())
    assert 0 == week.store.dead.count()
