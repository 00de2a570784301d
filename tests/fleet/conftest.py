"""Fleets of small processes that are gone when their test is."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.diagnosis.conftest import KEY
from tests.fleet.driven import Driven

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def model_worker(
    settings: Settings, api: MessagesApi, log: Path, *options: str, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the fleet, in threads, that asks a local API; killed at the end if it still runs."""
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "REDIS_URL": str(settings.redis_url),
        "JOELCLAW_HOME": str(settings.home), "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url,
        **environment,
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", "threads",
             "-Q", "default", "-l", "INFO", "--without-gossip", "--without-mingle", *options],
            cwd=ROOT, env=env, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            wait_until(lambda: b" ready." in log.read_bytes(), "the worker is ready", 40)
            yield process
        finally:
            process.kill()
            process.wait(20)


@pytest.fixture
def drive(tmp_path):
    """Start a small fleet; `home` is the same for all of one test unless given."""
    with contextlib.ExitStack() as stack:

        def start(*processes, home=None, **wanted):
            driven = Driven(home or tmp_path / "home", *processes, **wanted)
            stack.callback(driven.close)
            return driven

        yield start
