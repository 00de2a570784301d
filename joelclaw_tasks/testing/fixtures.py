"""pytest fixtures: `pytest_plugins = ["joelclaw_tasks.testing.fixtures"]` in a conftest.py makes them known.

Override `joelclaw_registry` or `joelclaw_app` to say what is under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.testing.embedded import Fleet, fleet
from joelclaw_tasks.testing.immediate import Inline, inline


@pytest.fixture
def joelclaw_registry() -> Registry | Path | None:
    """The registry under test: that of the settings, unless overridden."""
    return None


@pytest.fixture
def joelclaw_app() -> Celery | None:
    """The Celery app under test: none but the registry's handlers, unless overridden."""
    return None


@pytest.fixture
def joelclaw_inline(joelclaw_registry: Registry | Path | None, tmp_path: Path) -> Iterator[Inline]:
    """Handlers run as soon as their events are emitted; they keep their files in tmp_path."""
    with inline(joelclaw_registry, data_dir=tmp_path) as run:
        yield run


@pytest.fixture
def joelclaw_fleet(
    joelclaw_registry: Registry | Path | None, joelclaw_app: Celery | None, tmp_path: Path
) -> Iterator[Fleet]:
    """A worker on a Redis of its own; its handlers keep their files in tmp_path."""
    with fleet(joelclaw_registry, app=joelclaw_app, data_dir=tmp_path) as running:
        yield running


@pytest.fixture
def joelclaw_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagesApi]:
    """A Messages API on loopback that the settings name, with a key: no real model is asked."""
    with MessagesApi() as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "local")
        monkeypatch.delenv("ANTHROPIC_API_KEY_FILE", raising=False)
        yield api
