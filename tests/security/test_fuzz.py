"""Anything at all comes in: no crash, no hang, no 500, no traceback. Seeded, and bounded in time."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError
from tests.ingress.served import SECRET, TOKEN, ServedIngress, delivery_headers, serve

MEDIA_TYPES = ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "x"]
#: So long each of these may take; each example far less.
BUDGET_S = 5.0
EXAMPLE_S = 2.0

bounded = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "250")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
texts = st.text(max_size=40) | st.sampled_from(
    [
        "",
        "discovery/noted",
        "\x00",
        "\ud800",
        "é" * 9,
        "a\nb",
        "1e999",
        "{jc}:",
        "../../etc/passwd",
        "%s%n",
        "-1",
    ]
)
plain_texts = texts.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | plain_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_texts, inner, max_size=4),
    max_leaves=12,
)
events = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("discovery/noted") | values, "data": values, "id": values, "priority": values,
        "source": values, "at": values, "delay_s": values, "meta": values, "specversion": values,
        "type": st.just("discovery/noted") | values, "time": values, "datacontenttype": values,
    },
)  # fmt: skip
bodies = (
    st.binary(max_size=200)
    | (events | values | st.lists(events, max_size=5)).map(lambda value: json.dumps(value).encode())
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 5_000, b"\xff\xfe{}", b"", b"1e9999", b'"\\ud800"', b"NaN"])
)
header_values = st.binary(max_size=60).map(
    lambda value: bytes(b for b in value if b > 31 and b != 127).strip()
)


@contextlib.contextmanager
def quickly(what: object) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < EXAMPLE_S, what


class Until:
    """Examples are tried until the budget is spent; those after it pass at once."""

    def __init__(self) -> None:
        self._end = time.monotonic() + BUDGET_S

    def is_over(self) -> bool:
        return time.monotonic() > self._end


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[ServedIngress]:
    ingress = serve(
        tmp_path_factory.mktemp("fuzz"),
        redis_server,
        GITHUB_WEBHOOK_SECRET=SECRET,
        JOELCLAW_EVENTS_TOKEN=TOKEN,
    )
    yield ingress
    assert 0 == ingress.stop()
    assert "Traceback" not in ingress.log
    assert " while answering " not in ingress.log  # what nobody foresaw


def check_answer(reply: httpx.Response, sent: object) -> None:
    assert reply.status_code < 500, (sent, reply.text)
    if reply.status_code >= 400:
        body = reply.json()
        assert body["error"]["code"], (sent, reply.text)
        assert "Traceback" not in reply.text


def test_bodies_and_headers_of_events(served: ServedIngress):
    until = Until()

    @seed(4)
    @bounded
    @given(
        bodies,
        st.sampled_from(MEDIA_TYPES),
        st.dictionaries(
            st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time", "traceparent"]),
            header_values,
            max_size=7,
        ),
    )  # fmt: skip
    def fuzz(body: bytes, media_type: str, headers: dict[str, bytes]):
        if until.is_over():
            return
        own = {"authorization": f"Bearer {TOKEN}", "content-type": media_type}
        with quickly(body):
            check_answer(http.post("/events", content=body, headers={**headers, **own}), (body, headers))

    with served.client() as http:
        fuzz()
        assert 200 == http.get("/healthz").status_code


def test_bodies_and_headers_of_webhooks(served: ServedIngress):
    until = Until()
    runs = st.fixed_dictionaries(
        {
            "action": st.just("completed") | values,
            "workflow_run": st.fixed_dictionaries({"id": st.integers() | values}) | values,
        },
        optional={"repository": values, "workflow": values, "package": values, "sender": values},
    )  # fmt: skip

    @seed(5)
    @bounded
    @given(
        runs.map(lambda run: json.dumps(run).encode()) | bodies,
        st.sampled_from(["workflow_run", "package", "ping"]),
        st.dictionaries(
            st.sampled_from(["x-github-event", "x-github-delivery", "content-type", "traceparent"]),
            header_values,
            max_size=5,
        ),
    )  # fmt: skip
    def fuzz(body: bytes, kind: str, headers: dict[str, bytes]):
        if until.is_over():
            return
        own = {name.lower(): value for name, value in delivery_headers(body, kind=kind).items()}
        own.pop("content-type")
        with quickly(body):
            reply = http.post("/webhooks/github", content=body, headers={**own, **headers})
            check_answer(reply, (body, headers))

    with served.client() as http:
        fuzz()
        assert 200 == http.get("/healthz").status_code


def test_command_lines(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from joelclaw_tasks.cli.app import run

    for name in [name for name in os.environ if name.startswith("JOELCLAW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    queue = (
        "pause resume inspect explain limit rate priority shed cancel retry stats timeline simulate undo list"
    )
    verbs = [["emit"], ["registry", "show"], *(["queue", verb] for verb in queue.split())]
    verbs += [["dead", verb] for verb in ("list", "show", "revive", "purge")]
    options = [
        "--where",
        "--ttl",
        "--reason",
        "--id",
        "-d",
        "-p",
        "--delay",
        "--limit",
        "--hours",
        "--since",
        "--dry-run",
        "-s",
    ]
    words = plain_texts.map(lambda text: text.replace("\x00", "")) | st.sampled_from(
        [
            *options,
            "io",
            "family=x",
            "a=b c>d",
            "'",
            '"',
            "data.x[?",
            "9" * 400,
            "-",
            "--",
            "@",
            "limit:x",
            "1/0s",
        ]
    )
    until = Until()

    @seed(6)
    @bounded
    @given(st.sampled_from(verbs), st.lists(words, max_size=5))
    def fuzz(verb: list[str], rest: list[str]):
        arguments = [*verb, *rest]
        if until.is_over() or "--help" in rest or "-" in rest or any(word.startswith("@") for word in rest):
            return  # "-" reads stdin
        out = _Bytes()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), quickly(arguments):
            code = run([*arguments, "--json"])
        assert code in range(5), (arguments, code)
        answer = out.text()
        if code:
            envelope = json.loads(answer)
            assert not envelope["ok"]
            assert "INTERNAL_ERROR" != envelope["error"]["code"], (arguments, envelope)
            assert envelope["fix"], (arguments, envelope)

    fuzz()


class _Bytes(io.TextIOWrapper):
    """A stdout that takes text and bytes, as the real one does."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_arguments_of_the_store(redis_url: str):
    client = redis.Redis.from_url(redis_url)
    store = Store(client, Keys("{jc}:"))
    names = st.lists(texts, max_size=3)
    numbers = st.integers(-(2**70), 2**70) | st.floats() | texts
    words = ("id", "queue", "family", "handler", "lane", "actor", "trace", "rules", "payload")
    jobs = st.builds(
        Job,
        gates=names.map(tuple),
        priority=st.integers(-9, 9),
        **dict.fromkeys(words, texts),
        **dict.fromkeys(("slack_ms", "due_ms", "keep_ms"), numbers),
    )
    calls: dict[str, Callable[..., object]] = {
        "admit": lambda d: store.admit(d(st.lists(jobs, min_size=1, max_size=3))),
        "claim": lambda d: store.claim(d(names), d(st.integers(0, 9)), d(texts)),
        "complete": lambda d: store.complete(d(names)),
        "release": lambda d: store.release(d(names), reason=d(texts)),
        "discard": lambda d: store.discard(d(texts), Failure.without_exception(d(texts), d(texts))),
        "cancel": lambda d: store.cancel(d(names), actor=d(texts), reason=d(texts)),
        "revive": lambda d: store.revive(d(names), actor=d(texts), reason=d(texts)),
        "purge": lambda d: store.purge(d(names), actor=d(texts), reason=d(texts)),
        "renew": lambda d: store.renew(d(texts), {"pid": d(texts)}),
        "expire": lambda d: store.expire(d(names), reason=d(texts)),
        "pause": lambda d: store.pause(d(texts), actor=d(texts), reason=d(texts), ttl_ms=d(numbers)),
        "resume": lambda d: store.resume(d(texts), actor=d(texts), reason=d(texts)),
        "limit": lambda d: store.limit({d(texts): d(numbers)}, actor=d(texts), reason=d(texts)),
        "undo": lambda d: store.undo(d(texts), actor=d(texts), reason=d(texts)),
    }
    until = Until()

    @seed(7)
    @bounded
    @given(st.sampled_from(sorted(calls)), st.data())
    def fuzz(verb: str, data: st.DataObject):
        if until.is_over():
            return
        # Refused by us and in words, not by the script; what is no character never leaves this process.
        with quickly(verb), contextlib.suppress(JoelclawError, UnicodeEncodeError):
            calls[verb](data.draw)

    fuzz()
    assert client.ping()
    client.close()
