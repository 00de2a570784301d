"""The wheel and the editable install carry what Celery and the registry look for by name."""

from __future__ import annotations

import importlib.metadata
import json
import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "joelclaw_tasks" / "core" / "lua"
LOOK_AROUND = """
import importlib.resources, json
import beat_schedule, celeryconfig, joelclaw_tasks
from joelclaw_tasks.core.scripts import load_source, script_names
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

directory = Settings.load({}).registry_dir
print(json.dumps({
    "files": [module.__file__ for module in (beat_schedule, celeryconfig, joelclaw_tasks)],
    "registry_dir": str(directory),
    "events": sorted(Registry.load(directory).events),
    "scripts": {name: len(load_source(name)) for name in script_names()},
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of a fresh environment with the wheel; it borrows only our dependencies."""
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel))
    (packages,) = environment.glob("lib/python*/site-packages")
    # As plain paths: .pth files in there, such as that of an editable install, do not count.
    (packages / "borrowed.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    return python.parent


def run(*command: str, cwd: Path | None = None) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JOELCLAW_", "PYTHON")) and name != "REDIS_URL"
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_below(folder: Path, pattern: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


def test_the_wheel_holds_the_product_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert {"joelclaw_tasks", "celeryconfig.py", "beat_schedule.py"} == {
        name.split("/")[0] for name in names if ".dist-info/" not in name
    }
    assert "joelclaw_tasks/py.typed" in names
    for name in names_below(LUA, "*.lua"):
        assert f"joelclaw_tasks/core/lua/{name}" in names
    for name in names_below(ROOT / "registry", "*.json"):
        assert f"joelclaw_tasks/default_registry/{name}" in names


def test_an_installed_wheel_finds_its_modules_registry_and_scripts(installed, tmp_path):
    seen = json.loads(run(str(installed / "python"), "-c", LOOK_AROUND, cwd=tmp_path))

    packages = installed.parent.resolve()
    assert all(Path(file).resolve().is_relative_to(packages) for file in seen["files"])
    assert Path(seen["registry_dir"]).resolve().is_relative_to(packages)
    assert len(names_below(ROOT / "registry" / "events", "*.json")) == len(seen["events"])
    assert {path.stem for path in LUA.glob("*.lua")} == set(seen["scripts"])


def test_an_installed_wheel_brings_the_command(installed, tmp_path):
    version = json.loads(run(str(installed / "joelclaw"), "--version", "--json", cwd=tmp_path))

    assert importlib.metadata.version("celery").startswith("5.7.")
    assert version["ok"] is True
    assert "0.1.0" == version["result"]["version"]


def test_the_checkout_is_what_an_editable_install_runs(tmp_path):
    try:
        importlib.metadata.version("joelclaw-tasks")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed here; `make test` installs it")

    seen = json.loads(run(sys.executable, "-c", LOOK_AROUND, cwd=tmp_path))

    expected = [ROOT / "beat_schedule.py", ROOT / "celeryconfig.py", ROOT / "joelclaw_tasks" / "__init__.py"]
    assert expected == [Path(file) for file in seen["files"]]
    assert str(ROOT / "registry") == seen["registry_dir"]
