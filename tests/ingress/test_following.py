"""The ingress takes over a registry that was applied, and keeps its own when the files are not right."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

from joelclaw_tasks.core.registry_versions import RegistryVersions
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.following import follow
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

ROOT = Path(__file__).parents[2]


def test_a_version_that_is_applied_is_taken_over_and_a_broken_one_is_not(tmp_path: Path, redis_url: str):
    shutil.copytree(ROOT / "registry", tmp_path / "registry")
    settings = Settings(redis_url=redis_url, home=tmp_path, registry_dir=tmp_path / "registry")
    store = Store.connect(settings)
    emitter = Emitter(settings, Registry.load(tmp_path / "registry"), store)
    versions = RegistryVersions(store)
    noted = tmp_path / "registry" / "events" / "discovery-noted.json"
    first = emitter.registry

    async def until(condition) -> None:
        for _ in range(1_000):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not within 10 s")

    def looks() -> int:
        return int(store.client.info("commandstats").get("cmdstat_hget", {"calls": 0})["calls"])

    def looked_again():
        before = looks()
        # The first look may have begun before; what it found is done with when the third begins.
        return lambda: looks() >= before + 3

    async def story() -> None:
        following = asyncio.create_task(follow(emitter, settings, every_s=0.01))
        document = json.loads(noted.read_text())
        noted.write_text(json.dumps(document | {"priority": "P0"}))
        await until(looked_again())
        assert emitter.registry is first  # the files alone change nothing

        versions.add(0, "one", {}, actor="joel", reason="")
        await until(lambda: emitter.registry is not first)
        assert 0 == emitter.registry.event("discovery/noted").priority

        second = emitter.registry
        noted.write_text("{")
        versions.add(1, "two", {}, actor="joel", reason="")
        await until(looked_again())
        assert emitter.registry is second
        assert not following.done()
        following.cancel()

    asyncio.run(story())
    store.client.close()
