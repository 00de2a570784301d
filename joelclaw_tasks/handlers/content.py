"""content/updated: read the changed Markdown, say what is wrong with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files
from joelclaw_tasks.handlers.adr import check_adr, check_index, is_adr, records
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.frontmatter import read_page
from joelclaw_tasks.handlers.vault import MARKDOWN, MAX_BYTES, Vault, content_root, locate, read_capped
from joelclaw_tasks.handlers.wikilinks import check_links

_MAX_FINDINGS = 200


def validate(event: Event, deps: Deps) -> dict[str, Any]:
    """Check one Markdown file, store the report, notify when it starts or stops having findings.

    When: a file below content/ changed (`path`: relative to it, or absolute and inside it).
    What: frontmatter and wiki links of every page, and the rules of decision records (adr.py).
    Idempotent because: the report is a function of the files, and what was announced is kept in it.
    """
    path = locate(root := content_root(deps.data_dir), _path(event.data))
    if path.suffix.lower() not in MARKDOWN:
        raise PermanentFailure(f"{one_line(path.name, 80)} is not Markdown")
    kind = "adr" if is_adr(path) else "note"
    try:
        body = read_capped(root / path)
    except FileNotFoundError:
        # Editors save by deleting and creating: the report of the last content stays as it is.
        gone = Finding(1, "file.missing", f"{path} is not there (any more)", "warning")
        return _report(path, None, kind, [gone])
    if body is None:
        found = [Finding(1, "file.too-large", f"larger than {MAX_BYTES:,} bytes, so it was not read")]
    else:
        found = sorted(set(_findings(body, path, Vault.scan(root))))
    report = _report(path, hashlib.sha256(body).hexdigest() if body is not None else None, kind, found)
    _store(report, deps)
    return report


def _path(data: dict[str, Any]) -> str:
    path = data.get("path")
    if not isinstance(path, str) or not path.strip():
        raise PermanentFailure("data.path is required: the Markdown file that changed")
    return path


def _findings(body: bytes, path: PurePosixPath, vault: Vault) -> Iterator[Finding]:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        yield Finding(line, "file.encoding", f"byte {fault.start} is not UTF-8")
        text = body.decode("utf-8", "replace")
    page = read_page(text.replace("\r\n", "\n"))
    yield from page.findings
    yield from check_links(page.body, path, vault)
    if is_adr(path):
        yield from check_adr(page, path, vault)
    elif path.name.lower() == "readme.md" and records(path.parent, vault):
        yield from check_index(path, vault)


def _report(path: PurePosixPath, sha256: str | None, kind: str, findings: list[Finding]) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": sha256,
        "kind": kind,
        "ok": not any(finding.severity == "error" for finding in findings),
        "finding_count": len(findings),
        "findings": [finding.to_wire() for finding in findings[:_MAX_FINDINGS]],
    }


def _store(report: dict[str, Any], deps: Deps) -> None:
    path = deps.data_dir / "reports" / "content" / files.file_name(report["path"])
    state = "findings" if report["findings"] else "clean"
    with files.exclusive(path):
        stored = files.read_document(path)
        announced = stored.get("announced", "clean")
        if stored != (document := report | {"announced": announced}):
            files.write_json(path, document)
        if announced != state:
            # Announced is written only after the notification, so that a crash in between repeats it.
            severity = "warning" if report["findings"] else "info"
            deps.notify(_sentence(report), cause=f"content:{report['path']}", severity=severity)
            files.write_json(path, report | {"announced": state})


def _sentence(report: dict[str, Any]) -> str:
    if not report["findings"]:
        return f"{report['path']} has no findings any more."
    first, count = report["findings"][0], report["finding_count"]
    return (
        f"{report['path']} has {count} finding{'s' * (count != 1)}; line {first['line']}: {first['message']}."
    )
