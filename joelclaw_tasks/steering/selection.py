"""Selection: the jobs that a verb is about, by id, event, name or filter."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from joelclaw_tasks.core.candidates import Candidates
from joelclaw_tasks.core.controls import text
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import InvalidFilter
from joelclaw_tasks.steering.names import Names, unknown_target
from joelclaw_tasks.steering.where import Where


class Selection:
    """`pages()` reads the chosen jobs, at most about 1,000 at a time.

    `target` is the id of a job or an event, or the name of a family, handler or queue (`<kind>/<name>` when
    it could be several). `where` narrows it down, or chooses alone. `states` are those that the verb applies
    to, unless `where` names some. Raises UnknownTarget and InvalidFilter.
    """

    def __init__(
        self, store: Store, names: Names, target: str | None, where: str | None, states: Collection[State]
    ) -> None:
        if target is None and where is None:
            raise InvalidFilter("nothing is chosen: name a job, an event or a family, or give a filter")
        self._candidates = Candidates(store.client, store.keys)
        self._store = store
        self._where = None if where is None else Where(where)
        self._states = (self._where and self._where.states()) or states
        self._scope: tuple[str, str] | None = None
        #: The ids, when the target names jobs themselves.
        self.ids: list[str] | None = None
        if target is not None:
            self._resolve(target, names)
        self.text = " ".join(part for part in (self._named(target), where) if part)

    def _resolve(self, target: str, names: Names) -> None:
        if target != text(target):
            raise unknown_target(target, names)
        if self._exist([target]):
            self.ids = [target]
            return
        scopes = names.scopes(target)
        if scopes:
            # An event's name is its family, and mostly also means nothing else.
            kind, _, name = scopes[0].partition("/")
            self._scope = (kind, name)
            return
        self.ids = self._exist(names.jobs_of_event(target))
        if not self.ids:
            raise unknown_target(target, names)

    def _named(self, target: str | None) -> str | None:
        return "/".join(self._scope) if self._scope else target

    @property
    def family(self) -> str | None:
        """The family, when the target is one and nothing narrows it down."""
        return self._scope[1] if self._scope and self._scope[0] == "family" and not self._where else None

    def pages(self) -> Iterator[list[dict[str, Any]]]:
        """The chosen jobs, as core/candidates.py reads them. Raises CoreUnreachable."""
        with_payload = bool(self._where and self._where.needs_payload)
        if self.ids is not None:
            pages = iter([self._candidates.read(self.ids, with_payload=with_payload)])
        else:
            pages = self._candidates.pages(self._states, self._wants_lane, with_payload=with_payload)
        while (page := self._store.ask(lambda: next(pages, None))) is not None:
            if chosen := self._chosen(page):
                yield chosen

    def _chosen(self, page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        now_ms = self._store.now_ms()
        return [
            job
            for job in page
            if (self.ids is not None or self._in_scope(job))
            and (self._where is None or self._where.matches(job, now_ms))
        ]

    def _in_scope(self, job: dict[str, Any]) -> bool:
        return self._scope is None or job[self._scope[0]] == self._scope[1]

    def _wants_lane(self, queue: str, family: str, handler: str) -> bool:
        names = {"queue": queue, "family": family, "handler": handler}
        if self._scope is not None and names[self._scope[0]] != self._scope[1]:
            return False
        return self._where is None or self._where.wants_lane(queue, family, handler)

    def _exist(self, ids: list[str]) -> list[str]:
        return [job["id"] for job in self._store.ask(lambda: self._candidates.read(ids))]
