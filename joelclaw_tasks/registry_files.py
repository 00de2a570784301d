"""Reading a registry directory: every fault of every file, and the specs when there is none."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joelclaw_tasks.core.spec import EventSpec
from joelclaw_tasks.registry_faults import dotted, nearest, shown
from joelclaw_tasks.registry_health import DEFAULT_CHECKS, CheckSpec, read_checks
from joelclaw_tasks.registry_model import NAME_PATTERN
from joelclaw_tasks.registry_schedules import ScheduleSpec, read_schedules
from joelclaw_tasks.registry_schema import read_event, read_resources
from joelclaw_tasks.registry_tiers import TierSpec, read_tiers

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(slots=True)
class Contents:
    """What a directory holds; everything else counts only when `faults` is empty.

    `checks` None: there is no health.json.
    """

    events: list[EventSpec] = field(default_factory=list)
    resources: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, TierSpec] = field(default_factory=dict)
    checks: dict[str, CheckSpec] | None = None
    schedules: dict[str, ScheduleSpec] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, file: str, place: str, sentence: str) -> None:
        """Note one fault: file, field, and what to do."""
        fault = f"{file}: {place}: {sentence}" if place else f"{file}: {sentence}"
        # Faults go to terminals and logs: nothing in a file may break a line or the encoding there.
        fault = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", fault)
        self.faults.append(fault.encode("utf-8", "backslashreplace").decode())


def event_file(name: str) -> str:
    """The file of an event: content/updated is in content-updated.json."""
    return name.replace("/", "-").replace(".", "-") + ".json"


def read_directory(directory: Path) -> Contents:
    """Read resources.json, models.json, health.json, schedules.json and events/*.json.

    Hidden files and other suffixes are not read; links are followed.
    """
    contents = Contents()
    if not directory.is_dir():
        contents.add(
            str(directory), "", "is not a directory; set JOELCLAW_REGISTRY_DIR to the registry's directory"
        )
        return contents
    known_resources = _read_resources_file(directory / "resources.json", contents)
    _read_models_file(directory / "models.json", contents)
    known_checks = _read_health_file(directory / "health.json", contents)
    paths = _event_paths(directory / "events")
    if not paths:
        contents.add("events", "", "holds no .json file; add one file for each event")
    documents: list[tuple[str, Any]] = []
    for path in paths:
        file = f"events/{path.name}"
        readable, document = _read_json(path, file, contents)
        if not readable:
            continue
        documents.append((file, document))
        spec, faults = read_event(document)
        for place, sentence in faults:
            contents.add(file, place, sentence)
        if spec is not None:
            contents.events.append(spec)
    _check_names(documents, contents)
    _check_cancel_on(documents, contents)
    _read_schedules_file(directory / "schedules.json", documents, contents)
    for file, document in documents:
        for position, handler in enumerate(_handlers(document)):
            place = f"handlers[{position}]"
            _check_handler(file, place, handler, known_resources, contents)
            _check_depends_on(file, f"{place}.depends_on", handler, known_checks, contents)
    return contents


def _event_paths(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    # A link that leads nowhere is kept, so that a family does not vanish without a word.
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() == ".json"
        and not path.name.startswith(".")
        and (path.is_file() or (path.is_symlink() and not path.exists()))
    )


def _read_resources_file(path: Path, contents: Contents) -> list[str] | None:
    """Names of the known resources, None when the file is too broken to tell."""
    if not path.exists() and not path.is_symlink():
        return []
    readable, document = _read_json(path, path.name, contents)
    if not readable:
        return None
    contents.resources, faults = read_resources(document)
    for place, sentence in faults:
        contents.add(path.name, place, sentence)
    return list(document) if isinstance(document, dict) else None


def _read_models_file(path: Path, contents: Contents) -> None:
    if not path.exists() and not path.is_symlink():
        return
    readable, document = _read_json(path, path.name, contents)
    if readable:
        contents.tiers, faults = read_tiers(document)
        for place, sentence in faults:
            contents.add(path.name, place, sentence)


def _read_health_file(path: Path, contents: Contents) -> list[str] | None:
    """Names of the known checks, None when the file is too broken to tell."""
    if not path.exists() and not path.is_symlink():
        return list(DEFAULT_CHECKS)
    readable, document = _read_json(path, path.name, contents)
    if not readable:
        return None
    contents.checks, faults = read_checks(document)
    for place, sentence in faults:
        contents.add(path.name, place, sentence)
    listed = document.get("checks") if isinstance(document, dict) else None
    return list(listed) if isinstance(listed, dict) else None


def _read_schedules_file(path: Path, documents: list[tuple[str, Any]], contents: Contents) -> None:
    if not path.exists() and not path.is_symlink():
        return
    readable, document = _read_json(path, path.name, contents)
    if readable:
        contents.schedules, faults = read_schedules(document, _event_names(documents))
        for place, sentence in faults:
            contents.add(path.name, place, sentence)


def _read_json(path: Path, file: str, contents: Contents) -> tuple[bool, Any]:
    """Whether the file is JSON, and its document, with every text made encodable."""
    faults: list[tuple[str, str]] = []
    try:
        document = json.loads(
            path.read_bytes().decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=lambda pairs: _once_each(pairs, faults),
        )
        document = _encodable(document, (), faults)
    except OSError as error:
        faults.append(("", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        faults.append(("", f"is not UTF-8 text (byte {error.start}); save it as UTF-8"))
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        faults.append(("", f"is not JSON at line {error.lineno}, column {error.colno}: {reason}"))
    except RecursionError:
        faults.append(("", "is nested too deeply; an event file has at most four levels"))
    except ValueError as error:
        faults.append(("", str(error) if isinstance(error, _Refused) else "holds a number that is too long"))
    else:
        for place, sentence in faults:
            contents.add(file, place, sentence)
        return True, document
    for place, sentence in faults:
        contents.add(file, place, sentence)
    return False, None


class _Refused(ValueError):
    """A sentence for the person who wrote the file."""


def _refuse_constant(literal: str) -> None:
    raise _Refused(f"holds {literal}, which is not JSON; write a number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused(f"holds the number {text[:40]}, which is out of range; write a smaller one")
    return number


def _once_each(pairs: list[tuple[str, Any]], faults: list[tuple[str, str]]) -> dict[str, Any]:
    # Python would silently keep the last of two equal fields.
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = [name for name in document if names.count(name) > 1]
        faults.extend(("", f"has the field {shown(name)} twice in one object; keep one") for name in twice)
    return document


def _encodable(value: Any, place: tuple[Any, ...], faults: list[tuple[str, str]]) -> Any:
    if isinstance(value, str) and _SURROGATE.search(value):
        faults.append((dotted(place), "holds half a character (a lone surrogate); write the whole character"))
        return _SURROGATE.sub("?", value)
    if isinstance(value, list):
        return [_encodable(one, (*place, position), faults) for position, one in enumerate(value)]
    if isinstance(value, dict):
        return {_encodable(k, place, faults): _encodable(v, (*place, k), faults) for k, v in value.items()}
    return value


def _handlers(document: Any) -> list[dict[str, Any]]:
    """The handlers of a document that may be broken elsewhere; {} stands for one that is no object."""
    listed = document.get("handlers") if isinstance(document, dict) else None
    return [one if isinstance(one, dict) else {} for one in listed] if isinstance(listed, list) else []


def _event_names(documents: list[tuple[str, Any]]) -> list[str]:
    names = [document.get("name") for _, document in documents if isinstance(document, dict)]
    return [name for name in names if isinstance(name, str)]


def _check_names(documents: list[tuple[str, Any]], contents: Contents) -> None:
    events: dict[str, str] = {}
    handlers: dict[str, str] = {}
    for file, document in documents:
        name = document.get("name") if isinstance(document, dict) else None
        if isinstance(name, str):
            if name in events:
                contents.add(
                    file, "name", f"{shown(name)} is already defined in {events[name]}; remove one of them"
                )
            elif re.fullmatch(NAME_PATTERN, name) and f"events/{event_file(name)}" != file:
                contents.add(file, "", f"is the file of event {shown(name)}; rename it to {event_file(name)}")
            events.setdefault(name, file)
        for position, handler in enumerate(_handlers(document)):
            called = handler.get("name")
            if not isinstance(called, str):
                continue
            place = f"handlers[{position}].name"
            if called in handlers:
                contents.add(
                    file,
                    place,
                    f"{shown(called)} is already the name of a handler ({handlers[called]}); rename one",
                )
            handlers.setdefault(called, f"{file}: {place}")


def _check_cancel_on(documents: list[tuple[str, Any]], contents: Contents) -> None:
    known = _event_names(documents)
    for file, document in documents:
        for number, handler in enumerate(_handlers(document)):
            listed = handler.get("cancel_on")
            for position, one in enumerate(listed if isinstance(listed, list) else []):
                event = one.get("event") if isinstance(one, dict) else None
                if isinstance(event, str) and event not in known:
                    place = f"handlers[{number}].cancel_on[{position}].event"
                    contents.add(file, place, f"{shown(event)} is no event here{nearest(event, known)}")


def _check_handler(
    file: str, place: str, handler: dict[str, Any], known_resources: list[str] | None, contents: Contents
) -> None:
    resources = handler.get("resources")
    named: list[str] = []
    for position, one in enumerate(resources if isinstance(resources, list) else []):
        name, weight = (one.get("name"), one.get("weight")) if isinstance(one, dict) else (one, 1)
        if not isinstance(name, str):
            continue
        where = f"{place}.resources[{position}]"
        if name in named:
            contents.add(file, where, f"names {shown(name)} a second time; remove one")
        elif known_resources is not None and name not in known_resources:
            contents.add(
                file, where, f"{shown(name)} is not in resources.json{nearest(name, known_resources)}"
            )
        elif isinstance(weight, int) and weight > contents.resources.get(name, weight):
            contents.add(
                file,
                where,
                f"weight ({weight}) is more than the limit of {shown(name)} ({contents.resources[name]}): "
                "no job could ever start; lower weight or raise the limit in resources.json",
            )
        named.append(name)
    for what, field_name in (("limit", "concurrency"), ("rate", "rate")):
        _check_keys(file, f"{place}.{field_name}", what, handler.get(field_name), contents)


def _check_depends_on(
    file: str, place: str, handler: dict[str, Any], known_checks: list[str] | None, contents: Contents
) -> None:
    listed = handler.get("depends_on")
    if known_checks is None or not isinstance(listed, list):
        return
    for position, name in enumerate(listed):
        if isinstance(name, str) and name not in known_checks:
            sentence = f"{shown(name)} is no check of health.json{nearest(name, known_checks)}"
            contents.add(file, f"{place}[{position}]", sentence)


def _check_keys(file: str, place: str, what: str, entries: Any, contents: Contents) -> None:
    keys: list[str | None] = []
    for position, one in enumerate(entries if isinstance(entries, list) else []):
        key = one.get("key") if isinstance(one, dict) else 0
        if key is not None and not isinstance(key, str):
            continue
        if key in keys:
            which = "without a key" if key is None else f"with the key {shown(key)}"
            contents.add(file, f"{place}[{position}]", f"is a second {what} {which}; keep one")
        keys.append(key)
