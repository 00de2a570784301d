"""The client against a real server, and against servers that answer as nobody should."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from joelclaw_tasks.errors import RestateAway, RestateFailed, RestateRefused, SettingsError
from joelclaw_tasks.restate.client import RestateClient, Target
from joelclaw_tasks.restate.exchange import ANSWER_MOST_BYTES, BODY_MOST_BYTES
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.restate.conftest import Durable

ADD = Target("Effects", "add")


def body(**data) -> bytes:
    return json.dumps(data).encode()


def test_a_key_makes_two_sends_one_whatever_their_bodies(durable: Durable):
    first = durable.client.send(ADD, body(name="keyed"), idempotency_key="one key")
    second = durable.client.send(ADD, body(name="other"), idempotency_key="one key")
    assert ("Accepted", "PreviouslyAccepted") == (first.status, second.status)
    assert first.invocation_id == second.invocation_id
    assert {"added": "keyed"} == durable.client.attach(second.invocation_id, within_s=5).value
    assert (1, 0) == (durable.effects["keyed"], durable.effects["other"])


def test_two_at_once_under_one_key_are_one(durable: Durable):
    found: list[str] = []
    call = lambda: found.append(  # noqa: E731
        durable.client.call(ADD, body(name="both"), idempotency_key="both", within_s=5).value["added"]
    )
    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["both"] * 8 == found
    assert 1 == durable.effects["both"]


def test_an_output_is_looked_for_and_waited_for(durable: Durable):
    sent = durable.client.send(Target("Effects", "slowly"), body(name="looked for", seconds=1))
    assert None is durable.client.output(sent.invocation_id)
    with pytest.raises(RestateAway, match="in time"):
        durable.client.attach(sent.invocation_id, within_s=0.2)
    output = durable.client.attach(sent.invocation_id, within_s=10)
    assert {"added": "looked for"} == output.value
    assert output == durable.client.output(sent.invocation_id)


def test_an_output_of_nobody_is_refused(durable: Durable):
    with pytest.raises(RestateRefused, match="Restate answered 400: bad invocation id"):
        durable.client.output("inv_1nobody/../../x")


def test_what_is_cancelled_or_killed_has_failed(durable: Durable):
    for stop in (durable.client.cancel, durable.client.kill):
        sent = durable.client.send(Target("Effects", "slowly"), body(name="stopped", seconds=60))
        stop(sent.invocation_id)
        with pytest.raises(RestateFailed, match="409: "):
            durable.client.attach(sent.invocation_id, within_s=10)
    assert 0 == durable.effects["stopped"]


def awakeable_of(durable: Durable, name: str) -> str:
    def noted() -> list[str]:
        return [line.split()[2] for line in durable.effects if line.startswith(f"awakeable {name} ")]

    wait_until(noted, "it waits for an awakeable")
    return noted()[0]


def test_an_awakeable_is_resolved_once(durable: Durable):
    sent = durable.client.send(Target("Effects", "wait_for"), body(name="bell"))
    bell = awakeable_of(durable, "bell")
    durable.client.resolve_awakeable(bell, {"answer": 1})
    durable.client.resolve_awakeable(bell, {"answer": 2})
    assert {"answer": 1} == durable.client.attach(sent.invocation_id, within_s=10).value


def test_a_rejected_awakeable_fails_what_waits_for_it(durable: Durable):
    sent = durable.client.send(Target("Effects", "wait_for"), body(name="knell"))
    durable.client.reject_awakeable(awakeable_of(durable, "knell"), "nobody came")
    with pytest.raises(RestateFailed, match="nobody came"):
        durable.client.attach(sent.invocation_id, within_s=10)


def test_a_promise_of_a_workflow_is_resolved_by_the_first(durable: Durable):
    started = durable.client.send(Target("Flow", "run", "a flow"), body(name="approved", approval=True))
    again = durable.client.send(Target("Flow", "run", "a flow"), body(name="approved", approval=True))
    assert ("PreviouslyAccepted", started.invocation_id) == (again.status, again.invocation_id)
    approve = Target("Flow", "approve", "a flow")
    assert [True, False] == [
        durable.client.resolve_promise(approve, body(by="first")),
        durable.client.resolve_promise(approve, body(by="second")),
    ]
    output = durable.client.attach(started.invocation_id, within_s=10).value
    assert {"workflow": "a flow", "answer": {"by": "first"}} == output


@pytest.mark.parametrize("key", ["a/b", "..", ".", "?x=1", "#", "%2F", "ü 日本", "a" * 2_000])
def test_any_key_arrives_as_it_is(durable: Durable, key: str):
    output = durable.client.call(Target("Tally", "add_to", key), body(name="keyed"), within_s=5)
    assert key == output.value["key"]


def test_the_trace_goes_along(durable: Durable):
    of_span = SpanContext(0xABCDEF0123456789ABCDEF0123456789, 0x1234567890ABCDEF, True, TraceFlags(1))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(of_span)))
    try:
        sent = durable.client.send(ADD, body(name="traced"))
    finally:
        context.detach(token)
    rows = durable.client.query(f"select trace_id from sys_invocation where id = '{sent.invocation_id}'")
    assert ["abcdef0123456789abcdef0123456789"] == [row["trace_id"] for row in rows]


def test_a_body_that_is_too_large_is_not_sent(durable: Durable):
    with pytest.raises(RestateRefused, match="the input has 8,388,609 bytes"):
        durable.client.send(ADD, b" " * (BODY_MOST_BYTES + 1))


def test_nobody_there_is_worth_a_retry_and_no_password_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = RestateClient(f"http://joel:hunter2hunter2@127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(RestateAway) as caught:
            client.send(ADD, b"{}")
        client.close()
    assert "Restate cannot be reached: no connection" == str(caught.value)


def test_without_an_address_it_is_said_what_to_set():
    with pytest.raises(SettingsError, match="RESTATE_INGRESS_URL is not set"):
        RestateClient.of(Settings())
    client = RestateClient("http://127.0.0.1:1")
    with pytest.raises(SettingsError, match="RESTATE_ADMIN_URL is not set"):
        client.cancel("inv_1")
    client.close()


Answering = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def odd() -> Iterator[tuple[RestateClient, list[Answering], list[str]]]:
    """A client of a server that answers as the test says, and the paths that it was asked for."""
    answers: list[Answering] = []
    asked: list[str] = []

    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                answers[0](self)
            except (BrokenPipeError, ConnectionResetError):
                pass

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        client = RestateClient(f"http://127.0.0.1:{server.server_port}", timeout_s=0.5)
        yield client, answers, asked
        client.close()
        server.shutdown()
        thread.join()


def reply(status: int, text: bytes, **headers: str) -> Answering:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" " * 10)
        threading.Event().wait(0.1)


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(ANSWER_MOST_BYTES // 65_536 + 50):
        handler.wfile.write(b" " * 65_536)


JSON = "application/json"
ODD = [
    (reply(302, b"", location="/elsewhere"), RestateRefused, "a redirect, which is not followed"),
    (reply(200, b"<html>", content_type="text/html"), RestateRefused, "no ingress of Restate"),
    (reply(200, b"{", content_type=JSON), RestateRefused, "says that it is JSON, and is not"),
    (reply(202, b'{"status": 1}', content_type=JSON), RestateRefused, "no ingress of Restate"),
    (reply(500, b"<b>token</b>"), RestateAway, "Restate answered 500: Internal Server Error"),
    (reply(503, b'{"message": "not\\nyet"}'), RestateAway, "Restate answered 503: not yet"),
    (reply(429, b"{}"), RestateAway, "Restate answered 429: Too Many Requests"),
    (reply(400, b'{"message": 5}'), RestateRefused, "Restate answered 400: Bad Request"),
    (reply(500, b'{"message": "no"}', x_restate_error_source="invocation"), RestateFailed, "500: no"),
    (reply(500, b'{"message": "no"}', x_restate_error_source="ingress"), RestateAway, "answered 500: no"),
    (reply(404, b"[" * 100_000), RestateRefused, "Restate answered 404: Not Found"),
    (drip, RestateAway, "took too long|in time"),
    (flood, RestateRefused, "larger than 1,048,576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "said"), ODD)
def test_an_odd_answer_is_told_from_a_failure(
    odd: tuple[RestateClient, list[Answering], list[str]],
    answer: Answering,
    error: type[Exception],
    said: str,
):
    client, answers, asked = odd
    answers.append(answer)
    began = time.monotonic()
    with pytest.raises(error, match=said):
        client.send(ADD, b"{}", idempotency_key="k")
    assert time.monotonic() - began < 3  # its time is 0.5 s, however slowly somebody drips
    assert ["/Effects/add/send"] == asked  # once, and nowhere else
