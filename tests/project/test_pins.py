"""What the code imports is declared, and what is declared is pinned with hashes."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.pins import entries, runtime_section, versions

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
GEVENT = [Requirement(text) for text in PROJECT["optional-dependencies"]["gevent"]]
DEVELOPMENT = [Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]]
PINS = (ROOT / "constraints.txt").read_text()
OURS = {"beat_schedule", "bench", "celeryconfig", "chaos", "docs", "joelclaw_tasks", "tests", "tools"}


def imported(*folders: str) -> Iterator[tuple[str, str]]:
    """(top module, file) of every absolute import of something that is neither ours nor Python's."""
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                top = module.partition(".")[0]
                beside = (path.parent / f"{top}.py").exists()  # the apps that test workers load
                if not beside and top not in OURS and top not in sys.stdlib_module_names:
                    yield top, path.relative_to(ROOT).as_posix()


@functools.cache
def distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def undeclared(requirements: list[Requirement], *folders: str) -> set[tuple[str, str]]:
    declared = {canonicalize_name(requirement.name) for requirement in requirements}
    return {
        (module, file)
        for module, file in imported(*folders)
        if not declared & {canonicalize_name(name) for name in distributions().get(module, [module])}
    }


def test_the_product_imports_only_what_it_declares():
    fixtures = ("pytest", "joelclaw_tasks/testing/fixtures.py")  # loaded by pytest, or by nobody
    assert {fixtures} == undeclared(RUNTIME, "joelclaw_tasks")


def test_tests_and_tools_import_only_what_is_declared():
    assert set() == undeclared(RUNTIME + DEVELOPMENT, "tests", "tools", "bench", "chaos")


def test_every_declared_dependency_is_pinned_within_its_range():
    pinned = dict(pin.split("==") for pin in versions(PINS))
    runtime = dict(pin.split("==") for pin in versions(runtime_section(PINS)))

    for requirement in RUNTIME + GEVENT:
        assert requirement.specifier.contains(runtime[canonicalize_name(requirement.name)], prereleases=True)
    for requirement in DEVELOPMENT:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True)


def test_every_pin_has_hashes_and_one_version():
    runtime, _, development = PINS.partition("# development\n")
    pinned = dict(pin.split("==") for pin in versions(runtime))

    assert pinned == pinned | {
        name: version
        for name, version in (pin.split("==") for pin in versions(development))
        if name in pinned
    }
    for section in (runtime, development):
        assert [] == [name for name, entry in entries(section).items() if "--hash=sha256:" not in entry]


def test_tools_of_development_stay_out_of_the_image():
    shipped = {pin.split("==")[0] for pin in versions(runtime_section(PINS))}

    assert set() == shipped & {"hatchling", "hypothesis", "mypy", "pytest", "ruff"}


def test_this_environment_runs_the_pinned_celery():
    assert f"celery=={importlib.metadata.version('celery')}" in versions(PINS)
    assert f"kombu=={importlib.metadata.version('kombu')}" in versions(PINS)
