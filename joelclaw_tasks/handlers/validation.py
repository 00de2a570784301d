"""Validation: which folders may be validated, and by which rules beside the built-in ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from joelclaw_tasks.handlers.rule_pool import RulePool, pool_of


@dataclass(frozen=True, slots=True)
class Validation:
    """What is configured. `dirs` are resolved folders beside content/, `rules_dir` None: rules/ of the data.

    A rule may run for `limit_ms` on one document.
    """

    dirs: tuple[Path, ...] = ()
    rules_dir: Path | None = None
    limit_ms: int = 2_000

    def rules(self, data_dir: Path) -> RulePool:
        """The rules of the folder. The last good versions are in rules-kept/ of the data directory."""
        return pool_of(self.rules_dir or data_dir / "rules", data_dir / "rules-kept", self.limit_ms)
