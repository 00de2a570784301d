"""Key expressions turn an event into a short safe text, the same on every machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import InvalidEvent
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_keys import KeyExpression

REGISTRY = Registry([])


def event(data: dict[str, Any], **meta: Any) -> Event:
    return Event(id="e1", name="mail/received", source="test", data=data, at_ms=7, priority=1, meta=meta)


@pytest.mark.parametrize(
    ("expression", "data", "value"),
    [
        ("data.path", {"path": "a/b.md"}, "a/b.md"),
        ("data.path", {"path": ""}, ""),
        ("data.path", {"path": None}, None),
        ("data.path", {}, None),
        ("data.n", {"n": 5}, "5"),
        ("data.n", {"n": 1.5}, "1.5"),
        ("data.n", {"n": True}, "true"),
        ("data.n", {"n": False}, "false"),
        ("[data.n]", {"n": {"b": 1, "a": ["ü", None]}}, '[{"a":["ü",null],"b":1}]'),
        ("[data.a, data.b]", {"a": "x"}, '["x",null]'),
        ("data.list[1:]", {"list": [1, 2, 3]}, "[2,3]"),
        ("data.a || data.b", {"b": "second"}, "second"),
        ("id", {}, "e1"),
        ("at_ms", {}, "7"),
        ("priority", {}, "1"),
        ("join('/', [name, source])", {}, "mail/received/test"),
        ("data.path", {"path": "x" * 200}, "x" * 200),
    ],
)
def test_an_expression_finds_text(expression: str, data: dict[str, Any], value: str | None) -> None:
    assert value == REGISTRY.key_value(expression, event(data))


def test_values_that_are_equal_in_python_are_still_told_apart() -> None:
    given = [1, True, 1.0, "1", None, "null", 0, False, "", [], {}]
    wanted = ["1|1", "true|1", "1.0|1", "1|1", "null|1", "null|1", "0|1", "false|1", "|1", "[]|1", "{}|1"]

    for _ in range(2):  # the second time some of these are remembered
        found = [
            REGISTRY.key_value("join('|', [to_string(data.n), to_string(priority)])", event({"n": value}))
            for value in given
        ]
        assert wanted == found


def test_however_many_values_there_are_few_are_remembered() -> None:
    key = KeyExpression("data.n")

    assert [str(n) for n in range(5_000)] == [key.value(event({"n": n})) for n in range(5_000)]
    assert len(key._known) <= 1_000


@pytest.mark.parametrize("text", ["x" * 201, "a\nb", "a\x00b", "\x7f", "a\u2028b", "\x1b[31m"])
def test_a_long_or_unsafe_value_becomes_its_hash(text: str) -> None:
    value = REGISTRY.key_value("data.path", event({"path": text}))
    assert value is not None
    assert value.startswith("sha256:")
    assert len(value) == 71
    assert value == REGISTRY.key_value("data.path", event({"path": text}))
    assert value != REGISTRY.key_value("data.path", event({"path": text + "x"}))


@pytest.mark.parametrize(
    ("expression", "data"),
    [
        ("join('/', [data.a, data.b])", {"a": "secret-value"}),
        ("abs(data.a)", {"a": "secret-value"}),
        ("to_number(data.a)", {"a": "nan"}),
        ("data.a", {"a": float("inf")}),
        ("data.a", {"a": "\ud800"}),
        ("data.a", {"a": "\ud800" * 300}),
        ("data.a", {"a": datetime(2026, 1, 1, tzinfo=UTC)}),
        ("data.a", {"a": 10**5000}),
    ],
)
def test_data_that_an_expression_cannot_take_is_refused_without_showing_it(
    expression: str, data: dict[str, Any]
) -> None:
    with pytest.raises(InvalidEvent) as caught:
        REGISTRY.key_value(expression, event(data))
    assert expression in str(caught.value)
    assert "secret-value" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_object_is_no_key() -> None:
    with pytest.raises(InvalidEvent, match=r"'data.a' finds an object in this 'mail/received' event"):
        REGISTRY.key_value("data.a", event({"a": {"b": 1}}))


def test_a_function_that_got_the_wrong_kind_is_named() -> None:
    with pytest.raises(InvalidEvent, match=r"its function join\(\) got a value it cannot take"):
        REGISTRY.key_value("join('/', [data.a])", event({"a": 1}))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_every_json_value_gives_none_or_a_short_safe_text(value: Any) -> None:
    try:
        key = REGISTRY.key_value("data.value", event({"value": value}))
    except InvalidEvent:
        return
    assert (key is None) == (value is None)
    if key is not None:
        assert len(key) <= 200
        assert not any(ord(character) < 32 or ord(character) == 127 for character in key)
        key.encode("utf-8")
