"""Names of families in settings: a list with commas, in which one short name may stand for several."""

from __future__ import annotations

ALIASES = {
    "discovery": ("discovery/noted", "discovery/captured"),
    "content": ("content/updated",),
    "subscriptions": ("subscription/check-feeds.requested",),
    "github": ("github/workflow_run.completed",),
}
#: Stands for every family.
EVERY = "*"


def families_of(text: str) -> frozenset[str]:
    """The names in a list, aliases written out; EVERY stays as it is."""
    words = (word.strip() for word in text.split(","))
    return frozenset(name for word in words if word for name in ALIASES.get(word, (word,)))
