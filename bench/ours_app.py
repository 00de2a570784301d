"""The same app on the admission transport: one call is the whole difference."""

from __future__ import annotations

import joelclaw_tasks
from bench.noop import build_app

app = build_app()
joelclaw_tasks.install(app)
