"""A process that emits goes by the registry that was applied last, without a restart."""

from __future__ import annotations

import asyncio
import logging

from joelclaw_tasks.core.registry_versions import RegistryVersions
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import CoreUnreachable, RegistryError
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

LOOKS_EVERY_S = 5.0


async def follow(emitter: Emitter, settings: Settings, every_s: float = LOOKS_EVERY_S) -> None:
    """Look every `every_s` seconds whether another version was applied; then read the files anew.

    Files with a fault are told, and the registry that is there goes on. Runs until it is cancelled.
    """
    versions = RegistryVersions(emitter.store)
    seen: int | None = None
    while True:
        try:
            number = await asyncio.to_thread(versions.last_number)
            if number not in (0, seen):
                await asyncio.to_thread(_take_over, emitter, settings, number)
            seen = number
        except CoreUnreachable:
            pass  # whoever sends an event is told; here it is enough to look again
        await asyncio.sleep(every_s)


def _take_over(emitter: Emitter, settings: Settings, number: int) -> None:
    try:
        found = Registry.load(settings.registry_dir)
    except RegistryError as error:
        log.error(
            "version %d of the registry was applied, but here the files are not right: %s", number, error
        )
        return
    if found.version != emitter.registry.version:
        emitter.go_by(found)
        log.warning("goes by version %d of the registry", number)
