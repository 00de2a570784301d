"""joelclaw registry diff, apply, history, rollback and joelclaw fleet, against real Redis and workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.core.registry_versions import AppliedMeanwhile, RegistryVersions
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_folder import read_folder
from tests.cli.conftest import JoelclawProcess
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
NOTED = "events/discovery-noted.json"


@pytest.fixture
def registry(joelclaw: JoelclawProcess, tmp_path: Path) -> Path:
    path = tmp_path / "registry"
    shutil.copytree(ROOT / "registry", path)
    joelclaw.env["JOELCLAW_REGISTRY_DIR"] = str(path)
    return path


@pytest.fixture
def versions(store: Store) -> RegistryVersions:
    return RegistryVersions(store)


def retries(registry: Path, most: int) -> None:
    document = json.loads((registry / NOTED).read_text())
    document["handlers"][0]["retries"] = {"max": most}
    (registry / NOTED).write_text(json.dumps(document, indent=2))


@pytest.fixture
def worker(joelclaw: JoelclawProcess, registry: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker of the fleet with this registry."""
    log_path = Path(tempfile.mkstemp(prefix="fleet-worker-", suffix=".log")[1])
    command = [
        sys.executable, "-m", "celery", "-A", "joelclaw_tasks", "worker", "-P", "threads", "-c", "2",
        "-Q", "default,io", "-n", "one@test", "-l", "INFO",
    ]  # fmt: skip
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **joelclaw.env}, stdout=log, stderr=subprocess.STDOUT
        )
    wait_until(lambda: " ready." in log_path.read_text(errors="replace"), "the worker is ready", 40)
    yield process
    process.kill()
    process.wait(10)
    log_path.unlink()


def test_what_was_never_applied_is_all_new_and_the_first_version_is_1(
    joelclaw: JoelclawProcess, registry: Path, versions: RegistryVersions
) -> None:
    assert {"applied": None, "changes": []} == joelclaw("registry", "diff").result

    applied = joelclaw("registry", "apply", "--no-reload", "--reason", "the first", "--actor", "joel").result

    assert (1, "joel", "the first", Registry.load(registry).version) == tuple(
        applied["applied"][name] for name in ("number", "actor", "reason", "content")
    )
    assert [] == applied["reloaded"]
    assert read_folder(registry) == versions.last().files


def test_a_change_is_shown_applied_and_taken_back(
    joelclaw: JoelclawProcess, registry: Path, versions: RegistryVersions
) -> None:
    retries(registry, 3)
    before = read_folder(registry)
    joelclaw("registry", "apply", "--no-reload")
    retries(registry, 7)

    [change] = joelclaw("registry", "diff").result["changes"]
    assert {"file": NOTED, "place": "handlers[0].retries.max", "before": "3", "after": "7"} == change
    assert [change] == joelclaw("registry", "apply", "--dry-run").result["changes"]
    assert 1 == versions.last_number()
    assert [change] == joelclaw("registry", "apply", "--no-reload").result["changes"]

    back = joelclaw("registry", "rollback", "--no-reload").result

    assert (3, "back to version 1") == (back["applied"]["number"], back["applied"]["reason"])
    assert before == read_folder(registry)
    assert [3, 2, 1] == [each["number"] for each in joelclaw("registry", "history").result["versions"]]
    assert [] == joelclaw("registry", "diff").result["changes"]


def test_files_with_a_fault_are_not_applied(
    joelclaw: JoelclawProcess, registry: Path, versions: RegistryVersions
) -> None:
    joelclaw("registry", "apply", "--no-reload")
    document = json.loads((registry / NOTED).read_text())
    document["handlers"][0]["target"] = "joelclaw_tasks.handlers.discovery:nothing"
    (registry / NOTED).write_text(json.dumps(document))

    refused = joelclaw("registry", "apply", "--no-reload").error
    assert "REGISTRY_INVALID" == refused["code"]
    (registry / NOTED).write_text("{")
    assert "REGISTRY_INVALID" == joelclaw("registry", "apply", "--no-reload").error["code"]

    assert 1 == versions.last_number()


def test_a_rollback_throws_nothing_away_unless_told_to(
    joelclaw: JoelclawProcess, registry: Path, versions: RegistryVersions
) -> None:
    assert "REGISTRY_NOTHING_APPLIED" == joelclaw("registry", "rollback").error["code"]
    retries(registry, 1)
    joelclaw("registry", "apply", "--no-reload")
    retries(registry, 2)
    joelclaw("registry", "apply", "--no-reload")
    retries(registry, 9)
    edited = read_folder(registry)

    assert "REGISTRY_UNAPPLIED" == joelclaw("registry", "rollback", "--no-reload").error["code"]
    assert "REGISTRY_VERSION_UNKNOWN" == joelclaw("registry", "rollback", "7", "--discard").error["code"]
    assert (edited, 2) == (read_folder(registry), versions.last_number())

    (registry / NOTED).write_text("broken by hand")
    joelclaw("registry", "rollback", "1", "--discard", "--no-reload")
    assert versions.get(1).files == read_folder(registry)


def test_of_two_who_apply_at_once_one_is_told(versions: RegistryVersions) -> None:
    versions.add(0, "a", {}, actor="one", reason="")

    with pytest.raises(AppliedMeanwhile):
        versions.add(0, "b", {}, actor="other", reason="")

    assert ("one", 1) == (versions.last().actor, len(versions.all()))


def test_only_the_newest_versions_are_kept(versions: RegistryVersions) -> None:
    for number in range(53):
        versions.add(number, "same", {}, actor="x", reason="")

    assert list(range(53, 3, -1)) == [each.number for each in versions.all()]


def test_without_a_worker_the_fleet_says_so(joelclaw: JoelclawProcess, registry: Path) -> None:
    for verb in ("list", "reload"):
        assert "FLEET_NO_WORKER" == joelclaw("fleet", verb).error["code"]


def test_an_applied_registry_is_taken_over_by_a_running_worker(
    joelclaw: JoelclawProcess, registry: Path, worker: subprocess.Popen[bytes]
) -> None:
    joelclaw("registry", "apply", "--no-reload")
    [before] = joelclaw("fleet", "list").result["workers"]
    assert ("one@test", worker.pid, True) == (before["name"], before["pid"], before["is_current"])
    retries(registry, 9)
    assert not joelclaw("fleet", "list").result["workers"][0]["is_current"]

    applied = joelclaw("registry", "apply").result

    [after] = joelclaw("fleet", "list").result["workers"]
    assert ["one@test"] == [each["name"] for each in applied["reloaded"]]
    assert (worker.pid, applied["applied"]["content"], True) == (
        after["pid"], after["registry"], after["is_current"],
    )  # fmt: skip
    assert after["started_at"] > before["started_at"]
    assert "FLEET_WORKER_UNKNOWN" == joelclaw("fleet", "reload", "-w", "two@test").error["code"]

    (registry / "resources.json").write_text("{")
    assert "REGISTRY_INVALID" == joelclaw("registry", "apply").error["code"]
    assert worker.poll() is None
