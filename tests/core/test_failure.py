"""Signatures bring equal failures together; secrets never reach the dead letter."""

from __future__ import annotations

import time

import pytest

from joelclaw_tasks.core.failure import (
    ERROR_MOST,
    TRACEBACK_MOST,
    Failure,
    normalised,
    raised_by,
    signature_of,
    top_frame,
    tracebacks_of,
)
from joelclaw_tasks.core.redaction import redacted, secrets_of

TRACEBACK = """Traceback (most recent call last):
  File "/venv/lib/python3.11/site-packages/celery/app/trace.py", line 479, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/opt/joelclaw_tasks/fleet/task.py", line 34, in run
    return function(Event.from_wire(wire), deps())
  File "/srv/shop/orders/charge.py", line 12, in charge
    pay(order, token=TOKEN)
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
ValueError: order 17 has no card
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 has no card", "order 9913 has no card"),
        ("no such file: '/srv/a.md'", "no such file: '/srv/über/b c.md'"),
        ("can't parse 'abc' at 3", "can't parse 'it's' at 12"),
        ("no file notes/a.md", "no file /var/lib/notes/b/c.md"),
        ("at 2026-01-02T03:04:05.678Z", "at 2027-11-12 13:14:15+02:00"),
        ("job 7b2c1f9e-51c3-4b7e-9b2c-0d1a2b3c4d5e", "job 00000000-0000-0000-0000-000000000000"),
        ("<Order object at 0x7f0a12>", "<Order object at 0x55d1c0ffee>"),
        ("commit deadbeef42 is gone", "commit 0123456789abcdef0123 is gone"),
        ("GET https://a.example/x?y=1 gave 502", "GET http://b.example gave 502"),
        ("10.0.0.1:6379 refused", "192.168.17.200:6380 refused"),
        ("too   many\nblanks", "too many blanks"),
        ("took 1.5 s", "took 12 s"),
    ],
)
def test_texts_that_differ_in_values_only_are_alike(one, other):
    assert normalised(one) == normalised(other)
    assert signature_of("ValueError", one, "a.py:f") == signature_of("ValueError", other, "a.py:f")


def test_another_type_another_text_or_another_place_is_another_failure():
    signatures = {
        signature_of("ValueError", "no card", "a.py:f"),
        signature_of("TypeError", "no card", "a.py:f"),
        signature_of("ValueError", "no money", "a.py:f"),
        signature_of("ValueError", "no card", "a.py:g"),
    }
    assert 4 == len(signatures)
    assert all(signature.split("-")[0] in ("ValueError", "TypeError") for signature in signatures)


@pytest.mark.parametrize("kind", ["", "a b\n'\"", "ü", "x" * 500, "\ud800"])
def test_a_signature_can_be_typed_whatever_the_type_is_called(kind):
    assert signature_of(kind, "\ud800", "\ud800").replace("-", "").isalnum()
    assert len(signature_of(kind, "", "")) <= 51


def test_the_place_is_the_last_frame_of_the_projects_own_code():
    assert "orders/charge.py:charge" == top_frame(TRACEBACK)


def test_line_numbers_and_folders_of_a_deployment_do_not_matter():
    moved = TRACEBACK.replace("/srv/shop/", "/releases/42/").replace("line 12", "line 99")
    assert top_frame(moved) == top_frame(TRACEBACK)


def test_without_a_frame_of_its_own_the_very_last_one_is_the_place():
    foreign = TRACEBACK.replace("/srv/shop/orders", "/venv/lib/python3.11/site-packages/redis")
    assert "json/__init__.py:loads" == top_frame(foreign)
    assert "" == top_frame("") == top_frame("no traceback at all")
    assert "shop/tasks.py:run" == top_frame(
        'Traceback (most recent call last):\n  File "C:\\shop\\tasks.py", line 1, in run\n'
    )


def test_of_a_chain_the_last_traceback_says_where():
    chain = (
        TRACEBACK
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + (TRACEBACK.replace("orders/charge.py", "orders/refund.py").replace("charge\n", "refund\n"))
    )
    assert "orders/refund.py:refund" == top_frame(chain)
    assert [True, True] == [one.startswith("Traceback (most") for one in tracebacks_of(chain)]
    assert [] == tracebacks_of("nothing")


def test_the_exception_of_each_traceback_of_a_chain_is_known():
    chain = (
        TRACEBACK.replace("ValueError: order 17 has no card", "shop.errors.NoCard: order 17:\n  two lines")
        + "\nThe above exception was the direct cause of the following exception:\n\n"
        + TRACEBACK
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + TRACEBACK.replace("ValueError: order 17 has no card", "StopIteration")
    )
    assert [
        ("ValueError", "order 17 has no card"),
        ("StopIteration", ""),
    ] == [raised_by(one) for one in tracebacks_of(chain)][1:]
    assert ("", "") == raised_by("")


def test_a_failure_is_made_of_what_is_known():
    failure = Failure.of("shop.errors.NoCard", "order 17", traceback=TRACEBACK, place="unused")
    assert ("NoCard: order 17", "orders/charge.py:charge") == (failure.error, failure.place)
    assert failure.signature == Failure.of("NoCard", "order 18", traceback=TRACEBACK).signature
    assert "order 17 has no card" in failure.traceback
    assert ("Gone", "shop.add") == (
        Failure.of("Gone", "").error,
        Failure.of("Gone", "", place="shop.add").place,
    )


#: A ¦ is taken out: no file of the project holds what looks like a secret.
SECRETS = [
    ("redis://user:hunter2!@host:6379/0", "hunter2!"),
    ("redis://:" + 5_000 * "x" + "@host", "xxx"),
    ("redis://:p@ss@host/0", "ss@"),
    ("redis://:one,1@a/0,redis://:two;2@b/0", "two"),
    ("Authorization: Bearer abcDEF123456789", "abcDEF123456789"),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("connect(password='my secret', user='joel')", "my secret"),
    ('{"api_key": "a b c", "n": 1}', "a b c"),
    ('{\\"token\\": \\"abcdef\\"}', "abcdef"),
    ("{'password': 'it\\'s hunter2'}", "hunter2"),
    ("{'password': \"it's hunter2\"}", "hunter2"),
    ('{"password": "say \\"hunter2\\" now", "n": 1}', "hunter2"),
    ('{"a": "{\\"token\\": \\"say \\\\\\"hunter2\\\\\\" now\\"}"}', "hunter2"),
    ('\'{"password": "say \\\\"hunter2\\\\" now"}\'', "hunter2"),
    ("{'tokens': ['abcdef', 'hunter2']}", "hunter2"),
    ("{'credentials': {'user': 'x', 'pin': 'hunter2'}}", "hunter2"),
    ("{'password': b'hunter2'}", "hunter2"),
    ("{'password': 'hunter2 that was cut", "hunter2"),
    ("Authorization: Token hunter2", "hunter2"),
    ("passphrase=hunter2 signing_key=hunter2", "hunter2"),
    ("GET /v1?key=AbCdEf12&page=2", "AbCdEf12"),
    ("client_secret=s3cr3t&x=1", "s3cr3t"),
    ("DB_PASSWORD=hunter2", "hunter2"),
    ("Cookie: session", "session"),
    ("x-api-key: 123abc", "123abc"),
    ("sk-¦ant-api03-abcdefghijklmnop", "abcdefghijklmnop"),
    ("ghp_abcdefghijklmnopqrstuvwxyz012345", "abcdefghij"),
    ("AK¦IAABCDEFGHIJKLMNOP", "ABCDEFGH"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.sig-nature", "eyJzdWIi"),
    ("https://api.telegram.org/bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1/send", "AAHdqTcv"),
    ("-----BE¦GIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----", "MIIEow"),
    ("-----BE¦GIN PRIVATE KEY-----\nMIIEow cut", "MIIEow"),
    ("the value v4lue-of-env was sent", "v4lue-of-env"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets_are_masked(text, secret):
    text = text.replace("¦", "")
    shown = redacted(f"before {text} after", {"v4lue-of-env"})
    assert secret not in shown
    assert "***" in shown
    assert shown.startswith("before ")

    failure = Failure.of("E", text, traceback=f"{TRACEBACK}E: {text}\n", secrets={"v4lue-of-env"})
    assert secret not in failure.error + failure.traceback + failure.place


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'x'", "basic information about it", "no key", "task 7 of 9", "tokens are counted", "a: b",
        "https://example.org/a:b@c", "user@example.org", "monkey", "the secret of the queue",
    ],
)  # fmt: skip
def test_ordinary_text_is_left_alone(text):
    assert text == redacted(text)


def test_variables_named_like_secrets_and_passwords_of_urls_are_known():
    found = secrets_of(
        {
            "JOELCLAW_EVENTS_TOKEN": "events-token",
            "GITHUB_WEBHOOK_SECRET": "a/secret",
            "REDIS_URL": "redis://:pa55word@h/0",
            "HOME": "/srv/joel",
            "SHORT_TOKEN": "abc",
            "ODD_URL": "http://[::",
            "ANTHROPIC_API_KEY": " sk-1234567 ",
        }
    )
    assert {"events-token", "a/secret", "a%2Fsecret", "pa55word", "sk-1234567"} == found


def test_a_long_traceback_keeps_its_ends_within_bounds():
    text = TRACEBACK.replace("    pay(", "    # " + "x" * 200_000 + "\n    pay(")
    failure = Failure.of("ValueError", "y" * 100_000, traceback=text)
    assert ERROR_MOST == len(failure.error)
    assert TRACEBACK_MOST >= len(failure.traceback) > TRACEBACK_MOST - 10
    assert failure.traceback.startswith("Traceback (most recent call last):\n")
    assert failure.traceback.endswith("order 17 has no card\n")
    middle = Failure.of(
        "ValueError", "", traceback=TRACEBACK.replace("    pay(", "x" * 10_000 + "\n    pay(")
    )
    assert TRACEBACK_MOST == len(middle.traceback)


@pytest.mark.parametrize(
    "piece",
    [
        "key=", "eyJ", "eyJaaaaaaaa.", "a.a-", "://", "://:", "://a:b@", "a@", "@://:", "://a:@", "token",
        "'", '"', "bearer ", "a", "/a",
        "token='\\", "token=\\\"", "token=[", "token={'a': ", "token: token ",
        "'a", "'\\", "0", "0:", "sk-", 'password\\"', "-----BE¦GIN PRIVATE KEY-----", '  File "',
        "Traceback (most recent call last):\n",
    ],
)  # fmt: skip
def test_hostile_text_takes_no_more_than_linear_time(piece):
    text = piece.replace("¦", "") * (200_000 // len(piece))
    started = time.process_time()
    Failure.of("E", text, traceback=text)
    assert time.process_time() - started < 1.0
