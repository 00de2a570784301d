"""The world of a handler under test: the real one, whose emits and notifications are collected."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.handlers.world import World

NOON_MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z


@dataclass
class Recorder:
    """What a handler emitted and told; `fail_after` emits, the next ones raise."""

    emitted: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, str]] = field(default_factory=list)
    fail_after: int | None = None

    def emit(
        self,
        name: str,
        data: Mapping[str, Any],
        *,
        id: str | None = None,
        source: str = "python",
    ) -> object:
        if self.fail_after is not None and len(self.emitted) >= self.fail_after:
            raise ConnectionError("the core went away")
        self.emitted.append({"name": name, "data": dict(data), "id": id, "source": source})
        return None

    def notify(self, text: str, *, cause: str, severity: str = "info") -> None:
        self.told.append({"text": text, "cause": cause, "severity": severity})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def world(tmp_path: Path, recorder: Recorder) -> Iterator[World]:
    world = World(data_dir=tmp_path, emit=recorder.emit, notify=recorder.notify)
    yield world
    world.close()


@pytest.fixture
def event() -> Callable[..., Event]:
    def make(name: str, data: dict[str, Any], *, id: str = "e-1", at_ms: int = NOON_MS) -> Event:
        return Event(id=id, name=name, source="test", data=data, at_ms=at_ms)

    return make


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Site:
    """A web server on loopback: `answers` by path, and every request that came."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def serve(
        self, path: str, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> str:
        """Answer `path` with `body`; returns its URL."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content-Type": "application/rss+xml", **(headers or {})}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answers[path] = answer
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            # The client may have had enough.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                site.answers[self.path](self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()
