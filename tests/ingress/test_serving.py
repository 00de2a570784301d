"""The process: crowds, dawdlers, secrets that are not set, addresses that are not believed, a clean stop."""

from __future__ import annotations

import re
import select
import socket
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.ingress.crowd import deliver_at_once, raw_request
from tests.ingress.served import (
    ROOT,
    SECRET,
    TOKEN,
    ServedIngress,
    check_error,
    delivery_headers,
    payload,
    serve,
)

COMPLETED = payload("workflow_run.completed")


def connect(served: ServedIngress) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes, gently or not."""
    read = b""
    try:
        while part := connection.recv(65_536):
            read += part
    except ConnectionResetError:
        pass
    return read


QUEUED = b'{"ok":true,"events":1,"queued":1,"direct":0}'


@pytest.mark.timing
def test_300_deliveries_at_once_are_all_queued_and_answered_quickly(served: ServedIngress):
    crowd = deliver_at_once(served.port, [delivery_request() for _ in range(300)])

    assert {(b"HTTP/1.1 200 OK", QUEUED)} == {(one.status, one.body) for one in crowd.answers}
    # See docs/performance.md for the figure of a quiet machine; this catches a different order of magnitude.
    assert crowd.p95_ms < 500


def serve_alone(directory: Path, redis_url: str) -> ServedIngress:
    """An ingress of one process: what it has answered tells what it has read before."""
    return serve(directory, redis_url, GITHUB_WEBHOOK_SECRET=SECRET, JOELCLAW_INGRESS_PROCESSES="1")


def delivery_request() -> bytes:
    return raw_request(delivery_headers(COMPLETED), COMPLETED)


def test_a_delivery_is_answered_alike_however_its_bytes_arrive(tmp_path: Path, redis_server: str):
    served = serve_alone(tmp_path, redis_server)

    def answer_of(request: bytes, *cuts: int) -> bytes:
        with connect(served) as connection:
            begin = 0
            for cut in (*cuts, len(request)):
                connection.sendall(request[begin:cut])
                begin = cut
                # Another answer tells that this part has been read.
                with served.client() as http:
                    assert 200 == http.get("/webhooks/").status_code
            return re.sub(rb"date: [^\r]*", b"date: -", connection.recv(4096))

    whole = answer_of(delivery_request())

    assert whole.startswith(b"HTTP/1.1 200 OK\r\n")
    assert whole.endswith(b"\r\n\r\n" + QUEUED)
    assert sorted(whole.split(b"\r\n")) == sorted(answer_of(delivery_request(), 40).split(b"\r\n"))
    assert sorted(whole.split(b"\r\n")) == sorted(answer_of(delivery_request(), 900, 2_000).split(b"\r\n"))
    assert 0 == served.stop()


def test_deliveries_behind_one_another_on_one_connection_are_answered_in_order(served: ServedIngress):
    other = b"GET /webhooks/ HTTP/1.1\r\nHost: x\r\n\r\n"
    last = delivery_request().replace(b"Host: ingress", b"Host: ingress\r\nConnection: close")
    with connect(served) as connection:
        connection.sendall(delivery_request() + other + delivery_request() + other + last)

        answers = read_to_end(connection)

    assert [b"queued", b"service", b"queued", b"service", b"queued"] == re.findall(
        b'"(queued|service)"', answers
    )
    assert 5 == answers.count(b"HTTP/1.1 200 OK")
    assert 1 == answers.count(b"connection: close")


def test_a_connection_that_stays_open_carries_one_delivery_after_the_other(served: ServedIngress):
    with connect(served) as connection:
        for _ in range(3):
            connection.sendall(delivery_request())
            assert connection.recv(4096).endswith(QUEUED)


def test_a_connection_is_kept_for_longer_than_those_who_keep_it_for_later_do(served: ServedIngress):
    with connect(served) as connection:
        for waits_s in (6, 0):  # httpx keeps its own for 5 s, and uvicorn by itself as long
            connection.sendall(delivery_request())
            assert connection.recv(65_536).endswith(QUEUED)
            assert [] == select.select([connection], [], [], waits_s)[0]


def test_a_sender_that_hangs_up_before_its_answer_changes_nothing(served: ServedIngress):
    for _ in range(20):
        with connect(served) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(delivery_request())
    with connect(served) as connection:
        connection.sendall(delivery_request())
        assert connection.recv(4096).endswith(QUEUED)
    assert "Traceback" not in served.log


@pytest.mark.timing
def test_a_request_that_dawdles_over_its_head_or_its_body_is_cut_off(served: ServedIngress):
    request = raw_request(delivery_headers(COMPLETED), COMPLETED)
    with connect(served) as head_only, connect(served) as slow_body:
        began_at = time.monotonic()
        head_only.sendall(request[:60])
        slow_body.sendall(request[:-10])

        # The others are served meanwhile.
        with served.client() as http:
            assert 200 == http.get("/healthz").status_code
        answer = read_to_end(slow_body)
        cut_off = read_to_end(head_only)
        waited_s = time.monotonic() - began_at

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"BODY_TIMEOUT" in answer
    assert b"" == cut_off
    assert 9 < waited_s < 15


def test_a_sender_that_declares_less_than_it_sends_is_judged_by_what_it_declared(served: ServedIngress):
    # The rest is not part of the body, so the signature over all of it does not fit. A parser that
    # has read on already may see that the rest is no request.
    request = raw_request(delivery_headers(COMPLETED), COMPLETED)
    lying = request.replace(f"Content-Length: {len(COMPLETED)}".encode(), b"Content-Length: 100")
    with connect(served) as connection:
        connection.sendall(lying)

        assert connection.recv(4096).startswith((b"HTTP/1.1 401", b"HTTP/1.1 400"))


@pytest.mark.parametrize(
    "smuggled",
    [
        "X-GitHub-Delivery: a\r\n folded",
        "X-GitHub-Delivery: a\rb",
        "X-GitHub-Delivery: a\0b",
        "Transfer-Encoding: chunked",
        "Content-Length: 5",
        "X-Bad Name: a",
    ],
)
def test_a_head_that_two_servers_could_read_differently_is_never_accepted(
    served: ServedIngress, smuggled: str
):
    headers = delivery_headers(COMPLETED)
    del headers["X-GitHub-Delivery"]
    request = raw_request(headers, COMPLETED).replace(
        b"Host: ingress", b"Host: ingress\r\n" + smuggled.encode()
    )
    with connect(served) as connection:
        connection.sendall(request)

        assert b" 400 " in connection.recv(4096).split(b"\r\n")[0]


def test_a_sender_of_an_endless_body_gets_its_answer_and_is_cut_off(served: ServedIngress):
    with connect(served) as connection:
        head = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        sent_bytes = 0
        try:
            while sent_bytes < 1_000_000_000:
                connection.sendall(chunk)
                sent_bytes += len(chunk)
        except OSError:
            pass

    # The cap, what is thrown away afterwards, and what the kernel buffers.
    assert sent_bytes < 20_000_000
    with served.client() as http:
        assert 200 == http.get("/healthz").status_code


def test_without_secrets_everything_is_refused_and_the_log_says_what_to_set(
    tmp_path: Path, redis_server: str
):
    served = serve(tmp_path, redis_server, JOELCLAW_INGRESS_PROCESSES="1")
    try:
        with served.client() as http:
            for secret in ("", " ", "None", SECRET) * 6:
                headers = delivery_headers(COMPLETED, secret=secret)
                reply = http.post("/webhooks/github", content=COMPLETED, headers=headers)
                check_error(reply, 401, "SIGNATURE_INVALID")
            for token in ("None", "null", TOKEN):
                headers = {"Authorization": f"Bearer {token}"}
                reply = http.post("/events", json={"name": "discovery/noted", "data": {}}, headers=headers)
                check_error(reply, 401, "TOKEN_INVALID")
        assert 1 == served.log.count("/webhooks/github refuses everything: set GITHUB_WEBHOOK_SECRET")
        assert 1 == served.log.count("/events refuses everything: set JOELCLAW_EVENTS_TOKEN")
    finally:
        assert 0 == served.stop()


def bad_signatures(served: ServedIngress, forwarded: str, count: int) -> list[int]:
    with served.client() as http:
        headers = {"X-Forwarded-For": forwarded}
        return [
            http.post("/webhooks/github", content=b"{}", headers=headers).status_code for _ in range(count)
        ]


def test_behind_a_proxy_on_this_machine_its_word_counts_once_a_setting_says_so(
    tmp_path: Path, redis_server: str
):
    served = serve(tmp_path, redis_server, GITHUB_WEBHOOK_SECRET=SECRET, JOELCLAW_INGRESS_TRUST_FORWARDED="1")
    try:
        assert [401] * 20 + [429] == bad_signatures(served, "198.51.100.1, 203.0.113.1", 21)
        # Only what the proxy added itself counts.
        assert [429] == bad_signatures(served, "198.51.100.2, 203.0.113.1", 1)
        assert [401] == bad_signatures(served, "198.51.100.1, 203.0.113.2", 1)
    finally:
        assert 0 == served.stop()


def test_under_plain_uvicorn_a_claimed_address_buys_nothing_either(tmp_path: Path, redis_server: str):
    command = ["-m", "uvicorn", "joelclaw_tasks.ingress.app:app"]
    served = serve(tmp_path, redis_server, command=command, GITHUB_WEBHOOK_SECRET=SECRET)
    try:
        statuses = [bad_signatures(served, f"198.51.100.{number}:999", 1)[0] for number in range(22)]
        assert [401] * 20 + [429] * 2 == statuses
    finally:
        served.stop()


def test_a_stop_lets_the_request_under_way_finish(tmp_path: Path, redis_server: str):
    served = serve_alone(tmp_path, redis_server)
    request = raw_request(delivery_headers(COMPLETED, delivery=str(uuid.uuid4())), COMPLETED)
    with connect(served) as connection:
        connection.sendall(request[:-5])
        # Another answer tells that the first half has been read.
        with served.client() as http:
            assert 200 == http.get("/healthz").status_code
        served.process.terminate()
        wait_until(lambda: not _accepts(served), "no new connection is accepted")

        connection.sendall(request[-5:])

        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"queued":1' in answer
    assert 0 == served.process.wait(15)
    assert "Traceback" not in served.log


def _accepts(served: ServedIngress) -> bool:
    try:
        socket.create_connection(("127.0.0.1", served.port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("JOELCLAW_REGISTRY_DIR", "/nonexistent", "REGISTRY_INVALID"),
        ("JOELCLAW_LEASE_MS", "soon", "SETTINGS_INVALID: JOELCLAW_LEASE_MS must be a whole number"),
        ("JOELCLAW_INGRESS_TRUST_FORWARDED", "maybe", "must be 1 or 0"),
        ("REDIS_URL", "", "REDIS_UNREACHABLE: no Redis is known"),
    ],
)
def test_what_cannot_start_says_why_in_a_line_and_exits_1(
    tmp_path: Path, variable: str, value: str, reason: str
):
    environment = {
        "PYTHONPATH": str(ROOT), "REDIS_URL": "redis://127.0.0.1:1", "JOELCLAW_HOME": str(tmp_path),
        variable: value,
    }  # fmt: skip

    ended = subprocess.run(
        [sys.executable, "-m", "joelclaw_tasks.ingress", "--port", "0"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert 1 == ended.returncode, ended.stderr
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
