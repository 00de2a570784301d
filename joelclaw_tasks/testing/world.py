"""The world of a handler under test: the real one, on the clock of the test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from joelclaw_tasks.handlers.fetch import open_client
from joelclaw_tasks.handlers.world import World
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock


@dataclass(frozen=True)
class TestWorld(World):
    """What handlers are given (see handlers/deps.py)."""

    __test__ = False  # pytest: this holds no tests

    clock: Clock = field(default_factory=Clock)

    def now(self) -> datetime:
        """The time of the test, aware, UTC."""
        return self.clock.now()


def registry_of(registry: Registry | Path | None) -> Registry:
    """A registry, that of a directory, or the one that the settings name. Raises RegistryError."""
    if isinstance(registry, Registry):
        return registry
    return Registry.load(Settings.load().registry_dir if registry is None else registry)


@contextmanager
def surroundings(data_dir: Path | None, http: httpx.Client | None) -> Iterator[tuple[Path, httpx.Client]]:
    """What the test gave for handlers, or a folder and a client that live as long as the block."""
    with ExitStack() as stack:
        if data_dir is None:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="joelclaw-testing-")))
        yield data_dir, stack.enter_context(closing(open_client())) if http is None else http
