"""The registry that comes with the project, and the schema that editors read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_schema import event_schema
from tests.registry.conftest import an_event

ROOT = Path(__file__).resolve().parents[2]
EVENT_FILES = sorted((ROOT / "registry" / "events").glob("*.json"))


def test_it_holds_the_five_pilot_families_with_their_priorities() -> None:
    registry = Registry.load(ROOT / "registry")
    assert {name: spec.priority for name, spec in registry.events.items()} == {
        "discovery/noted": 2,
        "discovery/captured": 2,
        "content/updated": 1,
        "subscription/check-feeds.requested": 2,
        "github/workflow_run.completed": 1,
    }


def test_its_handlers_run_on_the_queues_that_the_fleet_serves() -> None:
    registry = Registry.load(ROOT / "registry")
    assert {name: handler.queue for name, handler in registry.handlers.items()} == {
        "discovery.note": "io",
        "discovery.capture": "default",
        "content.validate": "default",
        "feeds.check": "io",
        "github.record_run": "io",
    }


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"repository": "o/r", "workflowName": "CI"}, "o/r/CI"),
        ({"repository": "o/r"}, "o/r/"),
        ({"repository": "o/r", "workflowName": None}, "o/r/"),
        ({"repository": {"full_name": "o/r"}, "workflowName": 3}, '{"full_name":"o/r"}/3'),
        ({}, "/"),
    ],
)
def test_the_key_of_a_workflow_run_works_with_missing_fields(data: dict[str, Any], key: str) -> None:
    registry = Registry.load(ROOT / "registry")
    (limit,) = registry.handler("github.record_run").concurrency
    assert limit.key is not None
    event = Event(id="e", name="github/workflow_run.completed", source="test", data=data, at_ms=1)
    assert key == registry.key_value(limit.key, event)


def test_the_schema_file_is_what_the_models_generate() -> None:
    written = (ROOT / "registry" / "event.schema.json").read_text(encoding="utf-8")
    assert event_schema() == written, "run `python tools/registry_schema.py`"


@pytest.mark.parametrize("path", EVENT_FILES, ids=lambda path: path.stem)
def test_every_event_file_is_valid_against_the_schema(path: Path) -> None:
    schema = json.loads(event_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))
    assert json.loads(path.read_text(encoding="utf-8"))["$schema"] == "../event.schema.json"


@pytest.mark.parametrize("changes", [{"priority": "P9"}, {"handlers": []}, {"extra": 1}, {"name": "a=b"}])
def test_the_schema_refuses_what_the_loader_refuses(changes: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(event_schema()))
    assert validator.is_valid(an_event())
    assert not validator.is_valid(an_event(**changes))
