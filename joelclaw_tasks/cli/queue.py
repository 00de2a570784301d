"""joelclaw queue: what waits, why, and the switches to hold it."""

from __future__ import annotations

import typer

queue = typer.Typer(help="See what waits and why; pause and resume.", invoke_without_command=True)
