"""MessagesApi: the server. Each request has a thread; all of them end with it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from joelclaw_tasks.intelligence.local.act import STATUS, Act, Asked, Fault, Rule
from joelclaw_tasks.intelligence.local.batches import LocalBatches
from joelclaw_tasks.intelligence.local.cassette import Tape
from joelclaw_tasks.intelligence.local.checks import wrong_key, wrong_request
from joelclaw_tasks.intelligence.local.message import Cache, message

_DRIP_S = 0.05
_SLOW_S = 30.0
_MOST_BYTES = 32_000_000
_MOST_REQUESTS = 10_000
_HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"


class MessagesApi:
    """A Messages API on loopback: `with MessagesApi() as api:`, then give the SDK `api.url` as its base URL.

    Requests are answered by the script while it lasts, then by the rule, then with the simplest value of the
    asked schema. `keys`: those that are accepted; None: any. `requests` has what came in and was in
    order, the newest 10,000; `count` is how many there were. A `tape` answers everything instead.
    """

    def __init__(
        self, rule: Rule | None = None, *, keys: Collection[str] | None = None, port: int = 0,
        now_s: Callable[[], float] = time.monotonic, tape: Tape | None = None,
    ) -> None:  # fmt: skip
        self.tape = tape
        self.rule = rule
        self.keys = keys
        self.requests: list[Asked] = []
        self.count = 0
        self._acts: list[Act] = []
        self.batches = LocalBatches(self, now_s)
        self._lock = threading.Lock()
        self._cache = Cache(now_s)
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def script(self, *acts: Any) -> None:
        """Answer the next requests with these, in order: values, texts, faults or acts."""
        with self._lock:
            self._acts.extend(Act.of(act) for act in acts)

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; whoever waits for an answer gets none."""
        self._closing.set()
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()

    def wait(self, seconds: float) -> None:
        """Let time pass, but not when the server is asked to stop."""
        self._closing.wait(seconds)

    def act_for(self, body: Any, headers: dict[str, str]) -> tuple[Act, Asked | None, dict[str, Any]]:
        """What to do with a request, the request when it is in order, and the usage of its prompt."""
        why = wrong_key(headers, self.keys)
        if why is not None:
            return Act(fault=Fault.WRONG_KEY, message=why), None, {}
        why = wrong_request(body, headers)
        if why is not None:
            return Act(fault=Fault.BAD_REQUEST, message=why), None, {}
        act, asked = self.act_on(body, headers)
        if act.fault in STATUS:
            return act, asked, {}  # nothing is cached
        return act, asked, self.usage_of(asked)

    def usage_of(self, asked: Asked) -> dict[str, Any]:
        """The tokens of a request's prompt; what it asks to be cached is cached from now on."""
        with self._lock:
            return self._cache.usage_of(asked)

    def act_on(self, body: Any, headers: dict[str, str]) -> tuple[Act, Asked]:
        """What to do with a request that is in order."""
        with self._lock:
            self.count += 1
            asked = Asked(self.count, body, headers)
            self.requests.append(asked)
            del self.requests[:-_MOST_REQUESTS]
            scripted = self._acts.pop(0) if self._acts else None
        return scripted or (Act() if self.rule is None else Act.of(self.rule(asked))), asked


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        """Those that clients keep for their next request would be served on and on."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no error of ours."""


def _handler_of(api: MessagesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.api = api
    return Handler


class _Handler(BaseHTTPRequestHandler):
    api: MessagesApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its own word
        """Nothing is logged: headers hold keys."""

    def do_GET(self) -> None:
        if self.api.tape is not None:
            self._play("GET", b"")
        else:
            self._batch("GET", None)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > _MOST_BYTES:
            self.close_connection = True
            self._error(413, "request_too_large", "Request exceeds the maximum size")
            return
        raw = self.rfile.read(length)
        if self.api.tape is not None:
            self._play("POST", raw)
            return
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if self.path.partition("?")[0] != "/v1/messages":
            self._batch("POST", body)
            return
        act, asked, usage = self.api.act_for(body, self._small_headers())
        if act.after_s or act.fault is Fault.SLOW:
            self.api.wait(_SLOW_S if act.after_s is None else act.after_s)
        if act.fault in STATUS:
            self._refuse(act)
        elif asked is not None:
            self._answer(act, json.dumps(message(asked, act, usage)).encode())

    def _play(self, method: str, raw: bytes) -> None:
        assert self.api.tape is not None
        found = self.api.tape.answer(method, self.path, raw, self._small_headers(), self.api.url)
        headers = dict(found.headers)
        self._send(found.status, found.body, headers.pop("content-type", "application/json"), headers)

    def _batch(self, method: str, body: Any) -> None:
        act = self.api.batches.act()
        found: Any = act
        if act.fault not in STATUS:
            # What goes wrong otherwise goes wrong on the way back.
            found = self.api.batches.answer(method, self.path, body, self._small_headers())
        if act.after_s or act.fault is Fault.SLOW:
            self.api.wait(_SLOW_S if act.after_s is None else act.after_s)
        if isinstance(found, Act):
            self._refuse(found)
        else:
            self._answer(act, found)

    def _refuse(self, act: Act) -> None:
        assert act.fault is not None
        status, kind = STATUS[act.fault]
        retry = {"retry-after": f"{act.retry_after_s:g}"} if act.fault is Fault.RATE_LIMITED else {}
        self._error(status, kind, act.message or act.fault.replace("_", " "), retry)

    def _small_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _answer(self, act: Act, body: bytes) -> None:
        if act.fault is Fault.HANG_UP:
            self.close_connection = True
        elif act.fault is Fault.HALF_BODY:
            self.close_connection = True
            self._head(200, len(body))
            self.wfile.write(body[: len(body) // 2])
        elif act.fault is Fault.DRIP:
            self._head(200, len(body))
            for byte in body:
                self.wfile.write(bytes([byte]))
                self.api.wait(_DRIP_S)
        elif act.fault is Fault.HTML:
            self._send(200, _HTML, "text/html")
        elif act.fault is Fault.EMPTY:
            self._send(200, b"")
        elif act.fault is Fault.HALF_JSON:
            self._send(200, body[: len(body) // 2])
        elif act.fault is Fault.OTHER_JSON:
            self._send(200, b'{"status": "ok"}')
        else:
            self._send(200, body)

    def _error(self, status: int, kind: str, text: str, headers: dict[str, str] | None = None) -> None:
        error = {"type": "error", "error": {"type": kind, "message": text}, "request_id": self._request_id()}
        self._send(status, json.dumps(error).encode(), headers=headers)

    def _send(
        self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, len(body), kind, headers)
        self.wfile.write(body)

    def _head(
        self, status: int, length: int, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {
            "content-type": kind, "content-length": str(length), "request-id": self._request_id(),
            **(headers or {}),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()

    def _request_id(self) -> str:
        return f"req_local_{self.api.count:06}"
