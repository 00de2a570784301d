"""The reader of `queue watch`: asks Redis in the background, so that keys work while it does not answer."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store


@dataclass(frozen=True, slots=True)
class News:
    """What the reader found: a picture, what came of a request, or what went wrong."""

    picture: dict[str, Any] | None = None
    answer: Any = None
    error: Exception | None = None
    is_request: bool = False


class Reader:
    """Takes a picture every `interval_s`, and carries out requests between two of them.

    `fd` becomes readable when there is news. Start it by entering it; leaving does not wait for Redis.
    """

    def __init__(self, store: Store, take: Callable[[Store], dict[str, Any]], interval_s: float) -> None:
        self._store = store
        self._take = take
        self._interval_s = interval_s
        self._requests: queue.SimpleQueue[Callable[[Store], Any] | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.fd, self._bell = os.pipe()
        self._guard = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Reader:
        threading.Thread(target=self._run, name="watch-reader", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        with self._guard:
            self._is_closed = True
            os.close(self.fd)
            os.close(self._bell)

    def ask(self, request: Callable[[Store], Any]) -> None:
        """Carry this out as soon as may be; its answer, or its error, is news."""
        self._requests.put(request)

    def news(self) -> list[News]:
        """What came in since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(self.fd, False)
            os.read(self.fd, 4_096)
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._news.get_nowait())
        return found

    def _run(self) -> None:
        while not self._is_closed:
            self._tell(self._look)
            try:
                request = self._requests.get(timeout=self._interval_s)
            except queue.Empty:
                continue
            if request is None:
                return
            self._tell(partial(self._carry_out, request), is_request=True)

    def _look(self) -> News:
        return News(picture=self._take(self._store))

    def _carry_out(self, request: Callable[[Store], Any]) -> News:
        return News(answer=request(self._store), is_request=True)

    def _tell(self, find: Callable[[], News], *, is_request: bool = False) -> None:
        try:
            found = find()
        except Exception as error:  # noqa: BLE001 - whoever watches decides what to do about it
            found = News(error=error, is_request=is_request)
        self._news.put(found)
        with self._guard:
            if not self._is_closed:
                # A full pipe rings already.
                os.set_blocking(self._bell, False)
                with contextlib.suppress(BlockingIOError):
                    os.write(self._bell, b".")
