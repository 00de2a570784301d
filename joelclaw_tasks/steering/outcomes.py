"""Outcomes: what the result backend of a Celery app says of jobs, whatever backend that is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from joelclaw_tasks.address import Address
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

_FIX = "Start what keeps the results, or name another app."


class Outcome(NamedTuple):
    """How a task ended, in Celery's word (SUCCESS, FAILURE, …), and when (epoch ms, its worker's clock)."""

    state: str
    done_at: int


class Outcomes:
    """Reads results. `are_kept`: whether the app keeps any; `unreadable`: how many made no sense.

    As a context it closes its connections.
    """

    def __init__(self, backend: Any) -> None:
        from celery.backends.base import DisabledBackend

        self._backend = backend
        self.are_kept = not isinstance(backend, DisabledBackend)
        self.unreadable = 0
        self._is_ours = False

    @classmethod
    def of_app(cls, app: Celery) -> Outcomes:
        """Those of an app, by its settings."""
        return cls(app.backend)

    @classmethod
    def of_fleet(cls, settings: Settings) -> Outcomes:
        """Those in the fleet's Redis."""
        from celery import Celery
        from celery.backends.base import DisabledBackend

        if not settings.redis_url:
            return cls(DisabledBackend(app=Celery(set_as_current=False)))
        app = Celery("reconcile", set_as_current=False)
        app.conf.update(Address.parse(settings.redis_url).celery_settings(), redis_socket_timeout=5.0)
        made = cls(app.backend)
        made._is_ours = True
        return made

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._backend.client.close()

    def of(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Those of the jobs that have ended. Raises CoreUnreachable when the results cannot be asked for."""
        from celery.states import READY_STATES

        ended: dict[str, Outcome] = {}
        if not self.are_kept:
            return ended
        for job_id, meta in self._metas(ids):
            try:
                state, done_at = str(meta["status"]), meta.get("date_done")
                if state in READY_STATES and done_at is not None:
                    ended[job_id] = Outcome(state, _epoch_ms(done_at))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                self.unreadable += 1
        return ended

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the jobs of which it has heard at all. Raises as `of`."""
        return {job_id for job_id, meta in self._metas(ids) if meta.get("status") not in (None, "PENDING")}

    def _metas(self, ids: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        from celery.backends.base import BaseKeyValueStoreBackend

        if isinstance(self._backend, BaseKeyValueStoreBackend):
            for job_id, payload in zip(ids, self._payloads(ids), strict=True):
                if payload is None:
                    continue
                try:
                    yield job_id, dict(self._backend.decode(payload))
                except Exception:  # noqa: BLE001  # what is there may be anything
                    self.unreadable += 1
        else:
            for job_id in ids:
                yield job_id, _asked(partial(self._backend.get_task_meta, job_id, cache=False))

    def _payloads(self, ids: Sequence[str]) -> list[Any]:
        from celery.backends.redis import RedisBackend

        backend = self._backend
        keys = [backend.get_key_for_task(job_id) for job_id in ids]
        if isinstance(backend, RedisBackend):
            return list(_asked(partial(backend.mget, keys))) if keys else []
        return [_asked(partial(backend.get, key)) for key in keys]


def followers_of(payload: bytes | None, state: str) -> list[str | None]:
    """The ids of the tasks that a call sends once it has ended so; None for one whose id it does not fix."""
    try:
        message = json.loads(payload or b"{}")
        body = message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body)
        embedded = json.loads(body)[2] or {}
        following = list(embedded.get("callbacks" if state == "SUCCESS" else "errbacks") or ())
        if state == "SUCCESS":
            following += (embedded.get("chain") or [])[-1:]  # the next one comes last
        if embedded.get("chord"):
            following.append(embedded["chord"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return []  # a worker could send nothing of it on
    return [_id_of(signature) for signature in following]


def _id_of(signature: Any) -> str | None:
    options = signature.get("options") if isinstance(signature, dict) else None
    task_id = options.get("task_id") if isinstance(options, dict) else None
    return task_id if isinstance(task_id, str) and task_id.isprintable() else None


def _epoch_ms(moment: str | datetime) -> int:
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # each backend has its own; their text may hold its password
        raise CoreUnreachable(f"the results do not answer: {type(error).__name__}", fix=_FIX) from error
