"""Whatever a file holds, loading ends in a registry or in a RegistryError."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.errors import RegistryError
from joelclaw_tasks.registry import Registry
from tests.registry.conftest import a_handler, an_event

FIELDS = st.sampled_from(
    [
        "$schema",
        "name",
        "description",
        "priority",
        "protected",
        "handlers",
        "type",
        "target",
        "queue",
        "limit",
        "concurrency",
        "key",
        "resources",
        "retries",
        "max",
        "base_s",
        "cap_s",
        "timeout_s",
        "[key]",
    ]
)
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(["P1", "task", "http", "a:b", "data.x", "nas"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | TEXTS, inner, max_size=6),
    max_leaves=15,
)


@st.composite
def damaged_events(draw: st.DrawFn) -> dict[str, Any]:
    """An event in order in which some fields hold anything."""
    handler = a_handler(concurrency=[{"limit": 1, "key": "data.x"}], resources=["nas"], retries={"max": 1})
    return (
        an_event(handlers=[handler | draw(st.dictionaries(FIELDS, ANYTHING, max_size=3))])
        | draw(st.dictionaries(FIELDS, ANYTHING, max_size=2))
    )  # fmt: skip


def load(event: bytes, resources: bytes) -> None:
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        (directory / "events").mkdir()
        (directory / "events" / "mail-received.json").write_bytes(event)
        (directory / "resources.json").write_bytes(resources)
        try:
            registry = Registry.load(directory)
        except RegistryError as error:
            faults = error.faults
        else:
            assert 1 == len(registry.events)
            return
    assert faults
    for fault in faults:
        assert "Input should" not in fault
        assert "\n" not in fault
        fault.encode("utf-8")


@given(ANYTHING | damaged_events(), ANYTHING)
def test_any_json_document(event: Any, resources: Any) -> None:
    load(json.dumps(event).encode(), json.dumps(resources).encode())


@given(damaged_events())
def test_any_damaged_event(event: Any) -> None:
    load(json.dumps(event).encode(), b'{"nas": {"limit": 1, "description": "x"}}')


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes(content: bytes) -> None:
    load(content, content)


# Backquotes around what is no JSON are an old spelling, of which jmespath warns.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@given(st.text(st.sampled_from("data.xid[]*?&|!@`'\"(){}:,0-=<> "), min_size=1, max_size=20))
def test_any_key_expression(key: str) -> None:
    event = an_event(handlers=[a_handler(concurrency=[{"limit": 1, "key": key}])])
    load(json.dumps(event).encode(), b"{}")
