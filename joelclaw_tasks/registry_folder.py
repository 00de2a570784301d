"""The files of a registry as text: what they are, how two differ, and how they are put back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from joelclaw_tasks.registry_faults import shown
from joelclaw_tasks.whole_file import write_whole

#: Files that are read, beside those of events. Schemas and whatever else is there belong to somebody else.
_FILES = ("resources.json", "models.json", "health.json", "schedules.json")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs; None as text: it is not there. A whole file has an empty `place`."""

    file: str
    place: str
    before: str | None
    after: str | None

    def to_wire(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def read_folder(directory: Path) -> dict[str, str]:
    """The files that make a registry: path in the directory -> text. Raises OSError, UnicodeDecodeError."""
    found = [directory / name for name in _FILES if (directory / name).exists()]
    found += [
        path
        for path in sorted((directory / "events").iterdir())
        if path.suffix.lower() == ".json" and not path.name.startswith(".")
    ]
    return {path.relative_to(directory).as_posix(): path.read_bytes().decode("utf-8-sig") for path in found}


def write_folder(directory: Path, files: Mapping[str, str]) -> None:
    """Make these the files of a registry: each is replaced in one step, those that are too many go last."""
    present = read_folder(directory)
    for name, content in files.items():
        if present.get(name) != content:
            write_whole(directory / name, content.encode(), 0o644)
    for name in present.keys() - files.keys():
        (directory / name).unlink()


def changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Every value that differs, by file and place; both must be JSON."""
    found = []
    for file in sorted({*before, *after}):
        if file not in before or file not in after:
            found.append(Change(file, "", _whole(before.get(file)), _whole(after.get(file))))
            continue
        old, new = (dict(_leaves(json.loads(each[file]), "")) for each in (before, after))
        places = [
            each for each in dict.fromkeys((*old, *new)) if old.get(each, _MISSING) != new.get(each, _MISSING)
        ]
        found += [Change(file, place, _text(old, place), _text(new, place)) for place in places]
    return found


def _whole(content: str | None) -> str | None:
    return None if content is None else f"{len(content)} characters"


def _text(leaves: Mapping[str, Any], place: str) -> str | None:
    return shown(leaves[place]) if place in leaves else None


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and value:
        for position, each in enumerate(value):
            yield from _leaves(each, f"{place}[{position}]")
    else:
        yield place, value
