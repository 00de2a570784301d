"""The processes behind one door: they share its connections, count failures together, and end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.ingress.shared_throttle import SharedThrottle
from joelclaw_tasks.ingress.siblings import close, open_doors, processes_for
from tests.conftest import free_port, wait_until
from tests.ingress.crowd import deliver_at_once, raw_request
from tests.ingress.served import ROOT, SECRET, ServedIngress, delivery_headers, payload, serve

COMPLETED = payload("workflow_run.completed")


@pytest.fixture
def pair(tmp_path: Path, redis_server: str) -> Iterator[ServedIngress]:
    """An ingress of two processes."""
    served = serve(
        tmp_path,
        redis_server,
        GITHUB_WEBHOOK_SECRET=SECRET,
        JOELCLAW_INGRESS_PROCESSES="2",
        PYTHONWARNINGS="",
    )
    yield served
    served.process.kill()
    served.process.wait()


def siblings_of(served: ServedIngress) -> list[psutil.Process]:
    first = psutil.Process(served.process.pid)
    return [first, *first.children()]


def peers_of(process: psutil.Process) -> set[int]:
    """The ports of those who are connected to it."""
    return {one.raddr.port for one in process.net_connections("tcp") if one.raddr}


def test_each_process_takes_a_part_of_a_crowd(pair: ServedIngress):
    first, second = siblings_of(pair)
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", pair.port))) for _ in range(40)]
        ours = {client.getsockname()[1] for client in clients}

        # One takes all only once in 2**39 times.
        wait_until(lambda: ours == (peers_of(first) | peers_of(second)) & ours, "all are taken", timeout_s=5)
        assert ours & peers_of(first)
        assert ours & peers_of(second)

    crowd = deliver_at_once(
        pair.port, [raw_request(delivery_headers(COMPLETED), COMPLETED) for _ in range(100)]
    )

    assert 100 == sum(b'"queued":1' in answer.body for answer in crowd.answers)


def test_a_delivery_that_comes_again_to_the_other_process_is_a_duplicate(pair: ServedIngress):
    request = raw_request(delivery_headers(COMPLETED), COMPLETED)

    answers = [deliver_at_once(pair.port, [request]).answers[0].body for _ in range(20)]

    assert 1 == sum(b'"queued":1' in answer for answer in answers)
    assert 19 == sum(b'"duplicates":1' in answer for answer in answers)


def test_bad_signatures_are_counted_together(pair: ServedIngress):
    request = raw_request(delivery_headers(COMPLETED, secret="wrong"), COMPLETED)

    statuses = [deliver_at_once(pair.port, [request]).answers[0].status for _ in range(40)]

    assert [b"HTTP/1.1 401 Unauthorized"] * 20 + [b"HTTP/1.1 429 Too Many Requests"] * 20 == statuses


def test_a_stop_ends_all_of_them_and_its_code_is_0(pair: ServedIngress):
    processes = siblings_of(pair)

    assert 0 == pair.stop()

    assert [] == [process for process in processes if process.is_running()]
    assert "Traceback" not in pair.log


def test_ctrl_c_reaches_each_of_them_and_ends_as_cleanly(pair: ServedIngress):
    processes = siblings_of(pair)

    for process in processes:
        process.send_signal(signal.SIGINT)

    assert 0 == pair.process.wait(15)
    assert [] == [process for process in processes if process.is_running()]


@pytest.mark.parametrize("dies", [signal.SIGKILL, signal.SIGTERM])
def test_when_one_ends_by_itself_the_first_ends_too_and_says_so(pair: ServedIngress, dies: signal.Signals):
    _, second = siblings_of(pair)

    second.send_signal(dies)

    assert 1 == pair.process.wait(15)
    assert "a process of the ingress ended by itself; the others stop" in pair.log


def test_when_the_first_is_killed_the_other_goes_and_the_address_is_free(pair: ServedIngress):
    _, second = siblings_of(pair)

    pair.process.kill()

    assert -signal.SIGKILL == pair.process.wait(15)
    wait_until(lambda: _is_free(pair.port), "nobody listens there", timeout_s=15)
    with suppress(psutil.NoSuchProcess):
        second.wait(15)


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def test_a_second_ingress_at_the_same_address_is_refused(
    pair: ServedIngress, tmp_path: Path, redis_server: str
):
    environment = {"PYTHONPATH": str(ROOT), "REDIS_URL": redis_server, "JOELCLAW_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "joelclaw_tasks.ingress", "--port", str(pair.port)]

    ended = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert 1 == ended.returncode
    assert (
        "SETTINGS_INVALID: the ingress cannot listen on 127.0.0.1, "
        f"port {pair.port}: Address already in use\n"
        "Stop what listens there, or name another address with --host and --port.\n"
    ) == ended.stderr
    with pair.client() as http:
        assert 200 == http.get("/healthz").status_code


def test_a_setting_says_how_many_processes_there_are(tmp_path: Path, redis_server: str):
    served = serve(tmp_path, redis_server, JOELCLAW_INGRESS_PROCESSES="1")
    try:
        assert 1 == len(siblings_of(served))
    finally:
        assert 0 == served.stop()


def test_without_the_setting_there_are_two_but_never_more_than_cpus(monkeypatch: pytest.MonkeyPatch):
    def with_cpus(number: int, wanted: int = 0) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(number)))
        return processes_for(wanted)

    assert (1, 2, 2) == (with_cpus(1), with_cpus(2), with_cpus(16))
    assert (4, 1) == (with_cpus(1, wanted=4), with_cpus(16, wanted=1))


def test_where_connections_are_not_dealt_out_there_is_one_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert (1, 1) == (processes_for(0), processes_for(4))


def test_doors_at_port_0_are_at_one_free_port_for_each_process():
    doors = open_doors("127.0.0.1", 0, 3)

    try:
        ports = [one.getsockname()[1] for door in doors for one in door]
        assert 3 == len(ports)
        assert 1 == len(set(ports))
        assert ports[0] > 0
    finally:
        for door in doors:
            close(door)


def test_a_name_of_several_addresses_is_listened_to_at_each_of_them():
    found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)

    doors = open_doors("localhost", 0, 2)

    for door in doors:
        assert {entry[4][0] for entry in found} == {one.getsockname()[0] for one in door}
    assert 1 == len({one.getsockname()[1] for door in doors for one in door})
    for door in doors:
        close(door)


def test_an_address_that_others_have_is_refused_and_nothing_stays_open():
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port), reuse_port=True),
        pytest.raises(SettingsError, match="Address already in use"),
    ):
        open_doors("127.0.0.1", port, 2)

    assert _is_free(port)


def test_an_address_that_is_none_is_refused_with_what_to_do():
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1, port 0") as refused:
        open_doors("192.0.2.1", 0, 2)

    assert "Stop what listens there, or name another address with --host and --port." == refused.value.fix


def test_a_throttle_knows_what_its_siblings_saw_once_it_has_heard_them():
    one, two, three = SharedThrottle.for_each(3)
    for _ in range(12):
        one.record("203.0.113.7")
    for _ in range(8):
        two.record("203.0.113.7")
    assert [None, None, None] == [each.retry_after_s("203.0.113.7") for each in (one, two, three)]

    for each in (one, two, three):
        each.hear()

    assert [60, 60, 60] == [each.retry_after_s("203.0.113.7") for each in (one, two, three)]
    assert [None, None, None] == [each.retry_after_s("203.0.113.8") for each in (one, two, three)]


def test_what_was_heard_is_not_told_again():
    one, two = SharedThrottle.for_each(2)
    for _ in range(19):
        one.record("2001:db8::/64")

    for _ in range(3):
        two.hear()
        one.hear()

    assert [None, None] == [each.retry_after_s("2001:db8::/64") for each in (one, two)]


def test_a_sibling_that_hears_nothing_stops_nobody():
    one, deaf = SharedThrottle.for_each(2)

    for number in range(5_000):
        one.record(f"203.0.113.{number % 250}")

    assert 60 == one.retry_after_s("203.0.113.7")
    deaf.hear()
    assert 0 < len(deaf) <= 250
    deaf.mailbox.close()
    one.record("203.0.113.251")
    assert 251 == len(one)
