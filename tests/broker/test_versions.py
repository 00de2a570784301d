"""Old and new version at once, in both directions, and back: and what an old one must not touch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from workers import HERE, ROOT, Site

from joelclaw_tasks.core.format import FORMAT, FORMAT_PROPERTY
from tests.conftest import wait_until

#: The last commit before messages and Redis had a format: what it writes has format 1.
OLD = "4070f70f138990e374adedadd46bcaed3e7b210e"
_SEND = """
import sys
from stranger_app import make_app
app = make_app(sys.argv[1], installed=True)
for number in range(int(sys.argv[2])):
    countdown = 1 if number % 5 == 0 else None
    name = f"{sys.argv[3]}-{number}"
    app.tasks["work"].apply_async(("work", 0.02), task_id=name, priority=number % 10, countdown=countdown)
    if number % 10 == 0:
        app.tasks["flaky"].apply_async((2,), task_id=f"{name}-retried")
"""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old version of the package."""
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", OLD], check=False, capture_output=True).returncode:
        pytest.skip("this checkout has no history: there is no old version")
    place = tmp_path_factory.mktemp("old")
    archive = subprocess.run([*git, "archive", OLD, "joelclaw_tasks"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive, check=True)
    assert not (place / "joelclaw_tasks" / "core" / "format.py").exists()
    return place


def _send(site: Site, package: Path, count: int, name: str) -> None:
    command = [sys.executable, "-c", _SEND, site.url, str(count), name]
    environment = {"PYTHONPATH": f"{package}:{HERE}", "PATH": "/usr/bin:/bin"}
    subprocess.run(command, check=True, timeout=60, env=environment, cwd=HERE)


def test_old_and_new_work_side_by_side_and_one_can_go_back(own: Site, old: Path):
    before = own.start("threads", package=old).wait_ready()
    _send(own, old, 60, "old-for-old")
    wait_until(lambda: len(own.effects("work:finished")) == 60, "the old one works", 20)
    assert own.client.get("{jc}:format") is None
    after = own.start("threads").wait_ready()
    assert str(FORMAT) == own.client.get("{jc}:format")
    _send(own, old, 60, "old-for-both")
    _send(own, ROOT, 60, "new-for-both")
    wait_until(lambda: len(set(own.effects("work:finished"))) == 180, "both worked", 30)
    before.kill()
    _send(own, old, 60, "old-for-new")
    wait_until(lambda: len(set(own.effects("work:finished"))) == 240, "the new one worked", 30)
    _send(own, ROOT, 60, "new-for-old")
    after.kill()
    own.start("threads", package=old).wait_ready()
    wait_until(lambda: len(set(own.effects("work:finished"))) == 300, "the old one is back", 30)
    own.wait_idle()
    repeated = {job: times for job, times in Counter(own.effects("work:finished")).items() if times > 1}
    assert len(repeated) <= 8  # those that the new one ran when it was killed
    assert {2} >= set(repeated.values())
    assert {} == own.states()


def test_a_worker_leaves_a_redis_of_a_newer_format_alone(own: Site):
    own.client.set("{jc}:format", FORMAT + 1)
    waiting = own.note.delay("effect", "ran")
    worker = own.start("solo")
    assert 1 == worker.wait_end()
    assert f"has format {FORMAT + 1}; this joelclaw_tasks knows formats up to {FORMAT}" in worker.log
    assert "available" == own.job(waiting.id)["state"]
    assert str(FORMAT + 1) == own.client.get("{jc}:format")


def test_a_message_of_a_newer_format_is_in_the_dead_letter_and_can_be_revived(own: Site):
    own.start("solo").wait_ready()
    assert str(FORMAT) == own.client.get("{jc}:format")
    newer = own.note.apply_async(("effect", "newer"), **{FORMAT_PROPERTY: FORMAT + 1})
    plain = own.note.delay("effect", "plain")
    dead = own.wait_dead(newer.id)
    assert f"the message has format {FORMAT + 1}" in dead["error"]
    own.wait_gone(plain.id)
    assert ["plain"] == own.effects("effect")
