"""Connection: asks the Messages API by the anthropic SDK, within a deadline.

The SDK takes a second to import, so it is imported when the first question is on its way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.intelligence.decision import Question
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.intelligence.reply import Reply, broken_reply, refused_reply, reply_of, said
from joelclaw_tasks.registry_tiers import TierSpec

if TYPE_CHECKING:
    from pydantic import BaseModel


class Connection:
    """An SDK client with connections of its own, for one call at a time."""

    def __init__(self, base_url: str | None) -> None:
        import anthropic

        self._deadline = 0.0
        self._client = anthropic.Anthropic(
            api_key="none",  # each call brings its own, and none is looked for in the environment
            base_url=base_url or "https://api.anthropic.com",
            max_retries=0,
            open_telemetry={"propagation": False},
            http_client=anthropic.DefaultHttpxClient(event_hooks={"response": [self._bound]}),
        )

    def ask(self, question: Question[BaseModel], tier: TierSpec, key: str, deadline: float) -> Reply:
        """One request, until `deadline` (monotonic seconds). Raises nothing that network or API do."""
        request = request_of(question, tier)
        found = self.use(key, deadline, lambda client: client.messages.create(**request))
        return found if isinstance(found, Reply) else reply_of(found, key)

    def use(self, key: str, deadline: float, do: Callable[[Any], Any]) -> Any:
        """What `do` makes of the SDK's client, until `deadline`; or the Reply that says what went wrong."""
        import anthropic
        import httpx2

        self._deadline = deadline
        client: Any = self._client  # it is typed by dictionaries that are built in one piece
        client = client.with_options(api_key=key, timeout=max(0.001, deadline - time.monotonic()))
        try:
            return do(client)
        except anthropic.APIStatusError as error:
            return refused_reply(error, key)
        except anthropic.APIConnectionError as error:
            return broken_reply(error, key)
        except (anthropic.AnthropicError, ValueError, TypeError) as error:
            # 200 with HTML is a JSONDecodeError, no error of the SDK's.
            return Reply(Reason.MALFORMED, detail=said(f"the answer is no message: {error}", key))
        except httpx2.TransportError as error:  # in the middle of a stream, the SDK has none of its own
            return Reply(Reason.MALFORMED, detail=f"the connection broke: {type(error).__name__}")

    def close(self) -> None:
        """End its connections. Not during a call: TLS would read from whoever opens a socket next."""
        self._client.close()

    def _bound(self, response: Any) -> None:
        # The SDK's timeout is for each read: a server that drips bytes would never reach it.
        response.stream = _until(response.stream, self)

    @property
    def is_late(self) -> bool:
        """Whether the deadline of its call has passed."""
        return time.monotonic() >= self._deadline


class Connections:
    """Connections to one API that wait for the next call; those of a parent process are not used."""

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()

    def take(self) -> Connection:
        """One for this call alone. The first takes about a second, in which the SDK is imported."""
        with self._lock:
            if self._process != os.getpid():
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        return Connection(self._base_url)

    def give_back(self, connection: Connection) -> None:
        """The call is over, and went well enough to use the connection again."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """End those that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def request_of(question: Question[BaseModel], tier: TierSpec, *, cached: bool = True) -> dict[str, Any]:
    """The parameters of a message. `cached`: its fixed part may be, for those that come soon after it."""
    config: dict[str, Any] = {"format": {"type": "json_schema", "schema": schema_of(question.answer)}}
    if tier.effort is not None:
        config["effort"] = tier.effort
    fixed: dict[str, Any] = {"type": "text", "text": question.prompt.fixed}
    if cached:
        fixed["cache_control"] = {"type": "ephemeral", "ttl": tier.cache_ttl}
    return {
        "model": tier.model,
        "max_tokens": tier.max_tokens,
        "system": [fixed],
        "messages": [{"role": "user", "content": question.prompt.per_call}],
        "output_config": config,
    }


@cache
def schema_of(answer: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of an answer as the API takes it: without bounds, so the guard checks them."""
    import anthropic

    return anthropic.transform_schema(answer)


@cache
def _until_class() -> type[Any]:
    import httpx2

    class Until(httpx2.SyncByteStream):
        def __init__(self, stream: Any, connection: Connection) -> None:
            self._stream = stream
            self._connection = connection

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._stream:
                if self._connection.is_late:
                    raise httpx2.ReadTimeout("the whole answer takes too long")
                yield piece

        def close(self) -> None:
            self._stream.close()

    return Until


def _until(stream: Any, connection: Connection) -> Any:
    return _until_class()(stream, connection)
