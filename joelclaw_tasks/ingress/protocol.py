"""Protocol: uvicorn's HTTP with a deadline for the head of a request, and a short way for crowds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEAD_TIMEOUT_S = 10.0
#: Under this key the state of the application's lifespan holds its express endpoints, by path.
EXPRESS = "express"

#: Called once, with the answer to a request, or with None: it goes to the application.
Answer = Callable[[Response | None], None]
#: Called with the scope and the whole body of a POST, which it may empty once it has taken it.
Express = Callable[[dict[str, Any], bytearray, Answer], None]


class PunctualProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for the head of a request, and with express endpoints.

    uvicorn waits for ever for a head that never ends, so that a few hundred silent
    connections could shut everybody else out. (Bodies have a deadline of their own.)

    A task, an ASGI conversation and routing cost a small request more than the work that it asks for.
    So a POST that arrives whole is shown to the express endpoint of its path first. It takes only what it
    can answer without any ado; everything else goes to the application, as if this had not been tried.
    """

    _head_deadline: asyncio.TimerHandle | None = None
    _feeding = False
    _held: tuple[RequestResponseCycle, Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection opens: its first head is due."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Bytes arrive: either a request is under way now, or the rest of its head is due."""
        self._feeding = True
        super().data_received(data)
        self._feeding = False
        if self._held is not None:
            (cycle, app), self._held = self._held, None
            if cycle.more_body or self.transport.is_closing():
                super()._start_asgi_task(cycle, app)
            else:
                self._take(cycle)
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._stop_expecting()
        elif self._head_deadline is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_expecting()
        super().connection_lost(exc)
        if self.cycle is not None and self.cycle.response_complete:  # type: ignore[redundant-expr]
            # It leads back here. Without the circle all that a connection used is free at once, and not when
            # the collector comes; a crowd on new memory costs a page fault for each 4 KiB.
            self.cycle = None  # type: ignore[assignment]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        express = self.app_state.get(EXPRESS, {})
        scope = cycle.scope
        if (
            self._feeding
            and app is self.app
            and scope["method"] == "POST"
            and scope["path"] in express
            and not cycle.waiting_for_100_continue
        ):
            self._held = cycle, app  # until all that has arrived is parsed
        else:
            super()._start_asgi_task(cycle, app)

    def _take(self, cycle: RequestResponseCycle) -> None:
        express: Express = self.app_state[EXPRESS][cycle.scope["path"]]
        express(cycle.scope, cycle.body, lambda reply: self._answer(cycle, reply))  # type: ignore[arg-type]

    def _answer(self, cycle: RequestResponseCycle, reply: Response | None) -> None:
        if reply is None:
            super()._start_asgi_task(cycle, self.app)
            return
        if cycle.disconnected:
            return
        parts: list[Any] = [STATUS_LINE[reply.status_code]]
        for name, value in (*cycle.default_headers, *reply.raw_headers):
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", reply.body)
        self.transport.write(b"".join(parts))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _expect_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
