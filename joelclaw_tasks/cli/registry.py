"""joelclaw registry: the events and their handlers."""

from __future__ import annotations

import typer

registry = typer.Typer(help="The events and their handlers.", invoke_without_command=True)
