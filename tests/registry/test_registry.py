"""Looking things up in a registry, its version, and the targets of its handlers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from joelclaw_tasks.errors import UnknownEvent, UnknownHandler
from joelclaw_tasks.registry import Registry
from tests.registry.conftest import RegistryDirectory, a_handler


def two_events(directory: RegistryDirectory) -> Registry:
    directory.write("resources.json", {"nas": {"limit": 2, "description": "Disks."}})
    directory.write_event()
    directory.write_event(name="content/updated", handlers=[a_handler(name="content.check", queue="default")])
    return directory.load()


def test_an_unknown_event_names_the_nearest_known_one(directory: RegistryDirectory) -> None:
    registry = two_events(directory)
    with pytest.raises(UnknownEvent) as caught:
        registry.event("content/update")
    assert (
        str(caught.value) == "no event is named 'content/update'; the nearest known name is 'content/updated'"
    )


def test_even_a_far_off_or_huge_name_is_answered_briefly(directory: RegistryDirectory) -> None:
    registry = two_events(directory)
    for name in ("", "zzz", "x" * 1_000_000, "\ud800\n"):
        with pytest.raises(UnknownEvent) as caught:
            registry.event(name)
        assert "the nearest known name is '" in str(caught.value)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_an_unknown_handler_names_the_nearest_known_one(directory: RegistryDirectory) -> None:
    with pytest.raises(UnknownHandler) as caught:
        two_events(directory).handler("mail.sent")
    assert str(caught.value) == "no handler is named 'mail.sent'; the nearest known name is 'mail.send'"


def test_an_empty_registry_still_answers() -> None:
    with pytest.raises(UnknownEvent) as caught:
        Registry([]).event("a")
    assert str(caught.value) == "no event is named 'a'; the registry is empty"


def test_nothing_can_be_put_into_a_registry(directory: RegistryDirectory) -> None:
    registry = two_events(directory)
    with pytest.raises(TypeError):
        registry.events["new"] = registry.event("mail/received")  # type: ignore[index]
    assert {"content/updated", "mail/received"} == set(registry.events)


def test_the_version_ignores_order_whitespace_and_written_out_defaults(directory: RegistryDirectory) -> None:
    version = two_events(directory).version
    for path in sorted((directory.path / "events").iterdir(), reverse=True):
        document = json.loads(path.read_text())
        document["protected"] = False
        document["handlers"][0]["retries"] = {"max": 3, "base_s": 2, "cap_s": 300.0}
        path.unlink()
        path.write_text(json.dumps(dict(reversed(document.items())), indent=7))
    assert version == directory.load().version


def test_the_version_ignores_the_order_in_which_events_are_given(directory: RegistryDirectory) -> None:
    registry = two_events(directory)
    turned = Registry(reversed(registry.events.values()), registry.resources)
    assert registry.version == turned.version
    assert list(registry.events) == list(turned.events)


@pytest.mark.parametrize(
    "change", [{"priority": "P0"}, {"protected": True}, {"handlers": [a_handler(concurrency=[{"limit": 3}])]}]
)
def test_the_version_changes_with_the_content(
    directory: RegistryDirectory, change: dict[str, object]
) -> None:
    version = two_events(directory).version
    directory.write_event(**change)
    assert version != directory.load().version


def test_the_version_changes_with_the_limit_of_a_resource(directory: RegistryDirectory) -> None:
    version = two_events(directory).version
    directory.write("resources.json", {"nas": {"limit": 3, "description": "Disks."}})
    assert version != directory.load().version


MODULE = """
import asyncio
value = 5
def run(event, deps): ...
def narrow(event): ...
async def later(event, deps): ...
class Callable:
    def __call__(self, event, deps): ...
instance = Callable()
"""

TARGETS = [
    ("jobs_in_order:run", None),
    ("jobs_in_order:instance", None),
    ("jobs_in_order:runs", "jobs_in_order has no function runs; did you mean run?"),
    ("jobs_in_order:zzz", "jobs_in_order has no function zzz"),
    ("jobs_in_order:value", "jobs_in_order:value is int and not a function"),
    ("jobs_in_order:narrow", "jobs_in_order:narrow must take two arguments, (event, deps)"),
    ("jobs_in_order:later", "jobs_in_order:later is an async function; a handler is a plain one"),
    ("jobs_nowhere:run", "no module is named jobs_nowhere; correct the target or install what provides it"),
    ("jobs_in_order.sub:run", "no module is named jobs_in_order.sub;"),
    (
        "jobs_that_need:run",
        "jobs_that_need does not import: no module is named not_installed_here, which it needs",
    ),
    ("jobs_that_fail:run", "jobs_that_fail does not import: ValueError: at import"),
    ("jobs_that_exit:run", "jobs_that_exit does not import: SystemExit: 3"),
    ("jobs_that_misspell:run", "jobs_that_misspell does not import: SyntaxError:"),
]


@pytest.mark.parametrize(("target", "fault"), TARGETS)
def test_a_target_that_cannot_be_run_is_named_with_its_file(
    directory: RegistryDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    fault: str | None,
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in {
        "in_order": MODULE,
        "that_need": "import not_installed_here",
        "that_fail": "raise ValueError('at import')",
        "that_exit": "raise SystemExit(3)",
        "that_misspell": "def run(:",
    }.items():
        (tmp_path / f"jobs_{name}.py").write_text(text)
    directory.write_event(handlers=[a_handler(name="first"), a_handler(target=target)])
    faults = directory.load().check_targets()
    sys.modules.pop("jobs_in_order", None)
    if fault is None:
        assert faults == []
    else:
        assert len(faults) == 1, faults
        assert faults[0].startswith(f"events/mail-received.json: handlers[1].target: {fault}"), faults[0]
