"""Cassette: what an API answered, in one JSON file, to be played again where no API is.

A request is known by a digest of its path, model, prompt and schema. Keys are never written: no header of a
request is, and what looks like a secret is masked in answers and in the few words that are kept of a prompt.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from joelclaw_tasks.core.redaction import SHORTEST_SECRET, redacted, secrets_of
from joelclaw_tasks.intelligence.local.checks import key_of
from joelclaw_tasks.whole_file import write_whole

VERSION = 1
#: Stands for the address of the API in an answer.
_BASE_URL = "{base_url}"
_WORDS_MOST = 300
_HEADERS = ("content-type", "request-id", "retry-after", "retry-after-ms")
_NOT_PASSED_ON = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})
_PARTS = ("path", "model", "fixed", "per_call", "schema")
_UPSTREAM_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Taped:
    """One answer: its status, the headers that matter, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Tape(Protocol):
    """Answers in the place of the local API."""

    def answer(self, method: str, path: str, raw: bytes, headers: Mapping[str, str], url: str) -> Taped:
        """What to answer; `url` is the address of the local API."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request and its answer. `parts` are digests; `words` is how its text begins, without secrets."""

    parts: Mapping[str, str]
    words: str
    status: int
    headers: Mapping[str, str]
    body: str


class Recorder:
    """Passes requests on to `upstream`, and writes down what it answers. The file must not be there yet.

    Raises OSError when it cannot be written.
    """

    def __init__(self, file: Path, upstream: str) -> None:
        import httpx

        if file.exists():
            raise FileExistsError(f"{file} is there already; remove it, or name another")
        if not file.absolute().parent.is_dir():  # a slip of the pen must not make folders
            raise FileNotFoundError(f"there is no folder {file.parent}")
        self._file = file
        self._upstream = upstream.rstrip("/")
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._client = httpx.Client(timeout=_UPSTREAM_WITHIN_S)
        self._write()

    def answer(self, method: str, path: str, raw: bytes, headers: Mapping[str, str], url: str) -> Taped:
        """What the upstream answers. When it does not, nothing is written and the answer is a 502."""
        import httpx

        passed = {name: value for name, value in headers.items() if name not in _NOT_PASSED_ON}
        try:
            found = self._client.request(
                method, f"{self._upstream}{path}", content=raw or None, headers=passed
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return problem(502, "api_error", f"the upstream does not answer: {type(error).__name__}")
        kept = {name: found.headers[name] for name in _HEADERS if name in found.headers}
        key = key_of(headers)
        secrets = secrets_of() | ({key} if len(key) >= SHORTEST_SECRET else set())
        parts, words = digest(method, path, raw)
        body = _masked_body(found.text, secrets).replace(self._upstream, _BASE_URL)
        entry = Entry(parts, redacted(words, secrets)[:_WORDS_MOST], found.status_code, kept, body)
        with self._lock:
            self._entries.append(entry)
            self._write()
        return Taped(found.status_code, kept, found.text.replace(self._upstream, url).encode())

    def _write(self) -> None:
        entries = [asdict(entry) for entry in self._entries]
        text = json.dumps({"version": VERSION, "entries": entries}, indent=2, ensure_ascii=False) + "\n"
        # In one step, so that a recorder that is killed leaves a whole cassette.
        write_whole(self._file, text.encode())


class Player:
    """Answers what was recorded: the same request again in the order of the recording, then the last again.

    Raises OSError, and ValueError when the file is no cassette.
    """

    def __init__(self, file: Path) -> None:
        self._name = file.name
        self._entries = _read(file)
        self._lock = threading.Lock()
        self._played: dict[str, int] = {}

    def answer(self, method: str, path: str, raw: bytes, headers: Mapping[str, str], url: str) -> Taped:  # noqa: ARG002
        """The recorded answer, or a 404 that names the nearest request of the cassette."""
        parts, words = digest(method, path, raw)
        same = [entry for entry in self._entries if entry.parts == parts]
        if not same:
            return problem(404, "not_found_error", self._miss(parts, redacted(words, secrets_of())))
        with self._lock:
            key = json.dumps(parts, sort_keys=True)
            number = self._played.get(key, 0)
            self._played[key] = number + 1
        entry = same[min(number, len(same) - 1)]
        return Taped(entry.status, entry.headers, entry.body.replace(_BASE_URL, url).encode())

    def _miss(self, parts: Mapping[str, str], words: str) -> str:
        if not self._entries:
            return f"the cassette {self._name} has no answers"

        def nearness(entry: Entry) -> tuple[int, float]:
            equal = sum(entry.parts[part] == parts[part] for part in _PARTS)
            return equal, difflib.SequenceMatcher(None, entry.words, words[:_WORDS_MOST]).ratio()

        nearest = max(self._entries, key=nearness)
        number = self._entries.index(nearest) + 1
        others = " and ".join(part for part in _PARTS if nearest.parts[part] != parts[part])
        return (
            f"the cassette {self._name} has no answer to this request; the nearest is entry {number} of"
            f" {len(self._entries)}, with another {others}: {nearest.words[:120]!r}. Record it anew with"
            " joelclaw dev models --record"
        )


def digest(method: str, path: str, raw: bytes) -> tuple[dict[str, str], str]:
    """What a request is known by, part for part, and its text."""
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    form = body.get("output_config")
    texts = {
        "path": f"{method} {path}",
        "model": body.get("model"),
        "fixed": body.get("system"),
        "per_call": body.get("messages", body.get("requests")),
        "schema": form.get("format") if isinstance(form, dict) else None,
    }
    parts = {
        name: hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:16]
        for name, text in texts.items()
    }
    said = texts["per_call"] if texts["per_call"] is not None else texts["path"]
    return parts, said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def problem(status: int, kind: str, text: str) -> Taped:
    """An error in the words of the API."""
    error = {"type": "error", "error": {"type": kind, "message": text}}
    return Taped(status, {"content-type": "application/json"}, json.dumps(error).encode())


def _masked_body(text: str, secrets: set[str]) -> str:
    """Masked string by string, so that JSON, or each line of it, stays JSON and `input_tokens` stays."""

    def masked(value: Any) -> Any:
        if isinstance(value, str):
            return redacted(value, secrets)
        if isinstance(value, list):
            return [masked(each) for each in value]
        return {name: masked(each) for name, each in value.items()} if isinstance(value, dict) else value

    lines = []
    for line in text.splitlines(keepends=True):
        try:
            lines.append(
                json.dumps(masked(json.loads(line)), ensure_ascii=False) + "\n" * line.endswith("\n")
            )
        except ValueError:
            lines.append(redacted(line, secrets))
    return "".join(lines)


def _read(file: Path) -> list[Entry]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ValueError(f"it is no cassette of version {VERSION}")
    entries = []
    for number, fields in enumerate(found.get("entries") or (), start=1):
        try:
            entry = Entry(**fields)
            is_whole = set(_PARTS) == set(entry.parts) and 100 <= entry.status <= 599
        except TypeError:
            is_whole = False
        if not is_whole or not _are_texts(entry.headers, entry.parts, entry.body, entry.words):
            raise ValueError(f"entry {number} is no answer of an API")
        entries.append(entry)
    return entries


def _are_texts(*values: Any) -> bool:
    flat = [each for value in values for each in (value.values() if isinstance(value, dict) else [value])]
    return all(isinstance(each, str) for each in flat)
