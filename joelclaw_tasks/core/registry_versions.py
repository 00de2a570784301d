"""The registries that were applied: each a numbered version with its files, who applied it, when and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import JoelclawError

#: No more are kept, the newest.
MOST_KEPT = 50


class UnknownVersion(JoelclawError):
    """No such version of the registry is kept."""

    code = "REGISTRY_VERSION_UNKNOWN"
    fix = "`joelclaw registry history` lists the versions that are kept."


class AppliedMeanwhile(JoelclawError):
    """Somebody else applied a registry between the look and the act."""

    code = "REGISTRY_APPLIED_MEANWHILE"
    fix = "Look at `joelclaw registry history`, then run the command again."


@dataclass(frozen=True, slots=True)
class RegistryVersion:
    """One version. `files`: path in the directory -> text. `content`: hash of what they say."""

    number: int
    content: str
    at: int
    actor: str
    reason: str
    files: Mapping[str, str]

    def summary(self) -> dict[str, Any]:
        """Without the files, as JSON-able values."""
        return {
            **{key: value for key, value in asdict(self).items() if key != "files"},
            "files": len(self.files),
        }


class RegistryVersions:
    """Keeps and reads them. Every method raises CoreUnreachable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.keys.registry
        self._client: Any = store.client  # redis-py types every reply as str | bytes | None

    def last(self) -> RegistryVersion | None:
        """The newest, None when none was ever applied."""
        number = self._store.ask(lambda: self._client.hget(self._key, "last"))
        return None if number is None else self.get(int(number))

    def last_number(self) -> int:
        """The number of the newest, 0 when none was ever applied."""
        return int(self._store.ask(lambda: self._client.hget(self._key, "last")) or 0)

    def get(self, number: int) -> RegistryVersion:
        """That version. Raises UnknownVersion."""
        raw = self._store.ask(lambda: self._client.hget(self._key, str(number)))
        if raw is None:
            raise UnknownVersion(f"version {number} of the registry is not kept")
        return RegistryVersion(**json.loads(raw))

    def all(self) -> list[RegistryVersion]:
        """All that are kept, the newest first."""
        known = self._store.ask(lambda: self._client.hgetall(self._key))
        found = [RegistryVersion(**json.loads(raw)) for name, raw in known.items() if name != b"last"]
        return sorted(found, key=lambda version: -version.number)

    def add(
        self, after: int, content: str, files: Mapping[str, str], *, actor: str, reason: str
    ) -> RegistryVersion:
        """Keep one as the version after `after`. Raises AppliedMeanwhile when that is not the newest."""
        number, at = after + 1, int(self._store.ask(self._store.now_ms))
        version = RegistryVersion(number, content, at, actor, reason, dict(files))
        # HSETNX decides between two who apply at once.
        encoded = json.dumps(asdict(version), separators=(",", ":"))
        if self.last_number() != after or not self._store.ask(
            lambda: self._client.hsetnx(self._key, str(number), encoded)
        ):
            raise AppliedMeanwhile(f"version {number} of the registry was applied by somebody else just now")
        self._store.ask(lambda: self._client.hset(self._key, "last", number))
        self._store.ask(lambda: self._client.hdel(self._key, str(number - MOST_KEPT)))
        return version
