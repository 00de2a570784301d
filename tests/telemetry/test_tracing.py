"""Spans of whoever publishes and of the worker that runs belong to one trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EVENT = {
    "name": "thing/happened",
    "description": "A thing.",
    "priority": "P2",
    "handlers": [{"name": "thing.handle", "type": "task", "target": "traced_app:handle", "queue": "default"}],
}


class Traced:
    """Runs traced_app as publisher and as worker, and reads the spans of both."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        (directory / "registry" / "events").mkdir(parents=True)
        (directory / "registry" / "events" / "thing-happened.json").write_text(json.dumps(EVENT))
        (directory / "registry" / "resources.json").write_text("{}")
        self.spans_path = directory / "spans"
        self.log_path = directory / "worker.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        self.environment = {
            **kept,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "REDIS_URL": redis_url,
            "JOELCLAW_REGISTRY_DIR": str(directory / "registry"),
            "JOELCLAW_HOME": str(directory / "home"),
            "SPANS": str(self.spans_path),
        }

    def publish(self, what: str, **environment: str) -> str:
        run = subprocess.run(
            [sys.executable, str(HERE / "traced_app.py"), what],
            env={**self.environment, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert 0 == run.returncode, run.stderr
        return run.stdout

    def start_worker(self, pool: str) -> subprocess.Popen[bytes]:
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "traced_app", "worker", "-P", pool, "-c", "1",
                 "-Q", "default", "--without-gossip", "--without-mingle"],
                env=self.environment, cwd=HERE, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def spans(self) -> list[dict]:
        if not self.spans_path.exists():
            return []
        return [json.loads(line) for line in self.spans_path.read_text().splitlines()]

    def wait_spans(self, count: int) -> list[dict]:
        try:
            wait_until(lambda: len(self.spans()) >= count, f"{count} spans ended", 25)
        except BaseException:
            print(self.spans(), self.log_path.read_text()[-3000:] if self.log_path.exists() else "")
            raise
        return self.spans()


@pytest.fixture
def traced(redis_url: str, tmp_path: Path) -> Traced:
    return Traced(redis_url, tmp_path)


@pytest.fixture(params=["solo", "prefork", "threads"])
def worker(traced: Traced, request: pytest.FixtureRequest):
    process = traced.start_worker(request.param)
    yield process
    process.terminate()
    process.wait(15)


def named(spans: list[dict], name: str) -> list[dict]:
    return [span for span in spans if span["name"] == name]


def test_the_run_is_a_child_of_the_emit_of_the_call_and_of_each_retry(traced: Traced, worker):
    traced.publish("emit")
    spans = traced.wait_spans(2)
    (emit,), (run,) = named(spans, "emit thing/happened"), named(spans, "run/thing.handle")
    assert ("PRODUCER", None) == (emit["kind"], emit["parent"])
    assert ("CONSUMER", emit["span"], emit["trace"]) == (run["kind"], run["parent"], run["trace"])

    traced.spans_path.unlink()
    traced.publish("delay")
    spans = traced.wait_spans(2)
    (call,), (run,) = named(spans, "apply_async/thing.handle"), named(spans, "run/thing.handle")
    assert ("PRODUCER", None) == (call["kind"], call["parent"])
    assert ("CONSUMER", call["span"], call["trace"]) == (run["kind"], run["parent"], run["trace"])

    traced.spans_path.unlink()
    traced.publish("retry")
    spans = traced.wait_spans(4)
    calls, runs = named(spans, "apply_async/traced.retries"), named(spans, "run/traced.retries")
    assert 1 == len({span["trace"] for span in spans})
    # call -> first run -> its retry's call -> second run
    first = next(call for call in calls if call["parent"] is None)
    first_run = next(run for run in runs if run["parent"] == first["span"])
    again = next(call for call in calls if call["parent"] == first_run["span"])
    assert [again["span"]] == [run["parent"] for run in runs if run is not first_run]

    traced.spans_path.unlink()
    traced.publish("nested")
    spans = traced.wait_spans(4)
    assert 1 == len({span["trace"] for span in spans})
    (outer,) = named(spans, "run/traced.parent")
    assert [outer["span"]] == [span["parent"] for span in named(spans, "apply_async/traced.retries")]


def test_a_publish_that_fails_ends_its_span_and_leaves_nothing_behind(traced: Traced):
    said = traced.publish("down", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert "current span: False" in said
    spans = traced.spans()
    failed = named(spans, "apply_async/traced.retries")
    assert 2 == len(failed)
    assert {"ERROR"} == {span["status"] for span in failed}
    assert [None, None, None] == [span["parent"] for span in spans]
    assert 3 == len({span["trace"] for span in spans})
