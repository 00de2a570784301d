"""Redis behind TLS: a terminator of this test, with a certificate that is made for it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import OperationalError
from stranger_app import make_app
from workers import Site, close_app

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.fleet.redis_policy import ask
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until


class Terminator:
    """Takes TLS connections on loopback and passes what they say to a port without TLS."""

    def __init__(self, target_port: int, certificate: Path, key: Path) -> None:
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.handshakes = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            near = self._context.wrap_socket(raw, server_side=True)
        except (ssl.SSLError, OSError):
            raw.close()
            return
        self.handshakes += 1
        far = socket.create_connection(("127.0.0.1", self._target_port))
        self._sockets += [near, far]
        threading.Thread(target=_copy, args=(far, near), daemon=True).start()
        _copy(near, far)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except (OSError, ValueError):
        pass
    for sock in (source, target):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "ca.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture
def terminator(broker_redis: int, certificate: tuple[Path, Path]) -> Iterator[Terminator]:
    terminator = Terminator(broker_redis, *certificate)
    yield terminator
    terminator.close()


@pytest.fixture
def url(terminator: Terminator, certificate: tuple[Path, Path]) -> str:
    return f"rediss://127.0.0.1:{terminator.port}/0?ssl_ca_certs={certificate[0]}&ssl_cert_reqs=CERT_REQUIRED"


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_work_goes_through_tls_with_its_results(own: Site, terminator: Terminator, url: str, pool: str):
    tls = Site(url)
    worker = tls.start(pool, effects_url=own.url).wait_ready()
    assert 3 == tls.add.delay(1, 2).get(timeout=15)
    jobs = [tls.note.delay("noted", n) for n in range(50)]
    wait_until(lambda: len(jobs) == len(own.effects("noted")), "all ran", 20)
    tls.wait_reachable(worker)
    tls.wait_idle()
    connections = [entry for entry in own.client.client_list() if entry["id"] != str(own.client.client_id())]
    assert terminator.handshakes >= 5
    assert connections
    tls.close()


def test_every_command_reads_the_certificate_from_the_url(own: Site, url: str):
    assert "noeviction" == ask(url).eviction_policy
    store = Store.connect(Settings(redis_url=url))
    assert {} == {state: n for state, n in store.snapshot()["by_state"].items() if n}
    store.client.close()


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=required"])
def test_a_certificate_of_nobody_is_refused(own: Site, terminator: Terminator, query: str):
    url = f"rediss://127.0.0.1:{terminator.port}/0{query}"
    with pytest.raises(CoreUnreachable):
        Store.connect(Settings(redis_url=url)).queue_size("q")
    app = make_app(url, installed=True)
    with pytest.raises((OperationalError, CoreUnreachable, OSError)):
        app.tasks["note"].apply_async(("noted", 1), retry=False)
    close_app(app)
    assert [] == own.effects("noted")
    assert {} == own.states()


def test_a_server_without_tls_is_not_talked_to_in_the_clear(own: Site, broker_redis: int):
    with pytest.raises(CoreUnreachable):
        Store.connect(Settings(redis_url=f"rediss://127.0.0.1:{broker_redis}/0")).queue_size("q")
