"""Arguments as they may be shown: what is a secret is masked, and nothing else is touched."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from joelclaw_tasks.core.masking import masked, named_secrets, secret_places, secrets_of_call
from joelclaw_tasks.core.redaction import may_hold_secret, redacted
from tests.core.test_failure import SECRETS


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"password": "hunter2", "user": "joel"}, {"password": "***", "user": "joel"}),
        ({"credentials": {"user": "joel", "pin": 1234}}, {"credentials": "***"}),
        ({"tokens": ["a", "b"]}, {"tokens": "***"}),
        ([{"data": {"api_key": 12345678}}], [{"data": {"api_key": "***"}}]),
        (("at redis://me:hunter2@db/0", 7), ("at redis://me:***@db/0", 7)),
        ({"say": '{"password": "hunter2"}'}, {"say": '{"password": ***}'}),
        (
            {"password": None, "token": "", "has_secret": True},
            {"password": None, "token": "", "has_secret": True},
        ),
        ({"known": "it is v4lue-of-env"}, {"known": "it is ***"}),
        ({"number": 1234567890}, {"number": "***"}),
        ({"v4lue-of-env": 1}, {"***": 1}),
        ({"when": dt.date(2026, 1, 2)}, {"when": dt.date(2026, 1, 2)}),
        ({b"password=hunter2"}, "{b'password=***'}"),
    ],
)
def test_a_secret_is_masked_wherever_it_is(value, shown):
    assert shown == masked(value, {"v4lue-of-env", "1234567890"})


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_what_looks_like_a_secret_in_text_is_found_by_the_quick_look_too(text, secret):
    text = text.replace("¦", "").replace("v4lue-of-env", "password=v4lue-of-env")
    assert may_hold_secret(text)
    assert secret not in str(masked([text]))


@pytest.mark.parametrize(
    "value",
    [(1, 2.5, None, True), ("notes/a b.md", {"path": "x", "keys": [1, 2]}), {}, {"key": "x", "monkey": "y"}],
)
def test_ordinary_arguments_come_back_equal_and_of_the_same_kind(value):
    shown = masked(value)
    assert value == shown
    assert type(value) is type(shown)
    assert not may_hold_secret(repr(value))


def test_long_and_deep_arguments_are_cut_and_a_secret_at_the_cut_is_whole():
    url = "x" * 3_990 + " redis://me:" + "hunter2" * 20 + "@db/0"
    [shown] = masked([url])
    assert "hunter2" not in shown
    assert 4_001 == len(shown)
    assert "…" == shown[-1]

    deep: list = ["bottom"]
    for _ in range(50_000):
        deep = [deep]
    assert "bottom" not in str(masked(deep))
    assert 2_000 >= len(masked(list(range(100_000))))
    assert "***" == masked(list(range(100_000)))[-1]
    assert set() == named_secrets(deep)


class Odd:
    def __repr__(self):
        raise RuntimeError("no text")


def test_an_object_without_a_text_is_masked():
    assert ["***"] == masked([Odd()])


@pytest.mark.parametrize(
    "value", [["token='"] * 50_000, "token='" * 100_000, {"password": ["x" * 9] * 100_000}]
)
def test_hostile_arguments_take_no_more_than_a_moment(value):
    started = time.process_time()
    masked(value)
    named_secrets(value)
    assert time.process_time() - started < 1.0


def test_values_under_a_name_of_a_secret_are_known_as_they_are_written():
    call = (
        [{"data": {"password": 'it\'s "new"\n', "user": "joelclaw"}}],
        {"api_key": 12345678, "token": "short"},
    )
    found = named_secrets(call)
    assert {'it\'s "new"\n', "12345678"} <= found
    assert not any("joelclaw" in each or "short" in each for each in found)
    for text in (repr(call), str(call[0][0]), '{"x": "it\'s \\"new\\"\\n"}', "?x=it%27s%20%22new%22%0A"):
        assert "new" not in redacted(text, found)


class Login:
    def run(self, user, password, *more, api_key=None):
        """As a Celery task has it."""


def test_the_signature_of_a_task_says_which_arguments_are_secret():
    task = Login()
    assert (1,) == secret_places(task) == secret_places(task)
    assert () == secret_places(None)
    assert {"hunter22", "1234567"} == secrets_of_call(
        task, ("joel", "hunter22", "more-of-it"), {"api_key": 1234567}
    )
    assert set() == secrets_of_call(task, ("joel",), {})
    assert set() == secrets_of_call(task, None, None)
