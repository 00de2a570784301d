"""Stock Celery on its own Redis transport."""

from __future__ import annotations

from bench.noop import build_app

app = build_app()
