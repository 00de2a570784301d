"""Emitters with a spool, and proxies in front of the Redis of this test process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "events.jsonl"


@pytest.fixture
def settings(redis_url: str, spool: Path, tmp_path: Path) -> Settings:
    """Settings of a Redis that answers."""
    return Settings(home=tmp_path, redis_url=redis_url, spool=spool)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = Store.connect(settings)
    yield store
    store.client.close()


@pytest.fixture
def away(settings: Settings, spool: Path) -> Callable[..., Emitter]:
    """Emitters whose Redis is away."""

    def make(**options) -> Emitter:
        elsewhere = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
        registry = Registry.load(settings.registry_dir)
        return Emitter(settings, registry, Store.connect(elsewhere), spool=spool, **options)

    return make
