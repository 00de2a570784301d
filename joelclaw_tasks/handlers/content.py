"""content/updated: read the changed Markdown, say what is wrong with it."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files
from joelclaw_tasks.handlers.adr import is_adr
from joelclaw_tasks.handlers.built_in_rules import RULES
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.handlers.document import Document
from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.finding import Finding
from joelclaw_tasks.handlers.rule_pool import Checked
from joelclaw_tasks.handlers.validation import Validation
from joelclaw_tasks.handlers.vault import MARKDOWN, MAX_BYTES, content_root, locate_in, read_capped

_MAX_FINDINGS = 200


def validate(event: Event, deps: Deps) -> dict[str, Any]:
    """Check one Markdown file, store the report, notify when it starts or stops having findings.

    When: a file below content/ changed (`path`: relative to it, or absolute and inside it), or below a
        folder that is watched (absolute; docs/watch.md).
    What: frontmatter and wiki links of every page, the rules of decision records (adr.py), and the rules of
        the rules folder, as they are now.
    Idempotent because: the report is a function of the files, and what was announced is kept in it.
    """
    content = content_root(deps.data_dir)
    root, path = locate_in((content, *deps.validation.dirs), _path(event.data))
    if path.suffix.lower() not in MARKDOWN:
        raise PermanentFailure(f"{one_line(path.name, 80)} is not Markdown")
    kind = "adr" if is_adr(path) else "note"
    shown = str(path if root == content else root / path)
    try:
        body = read_capped(root / path)
    except FileNotFoundError:
        # Editors save by deleting and creating: the report of the last content stays as it is.
        gone = Finding(1, "file.missing", f"{shown} is not there (any more)", "warning")
        return _report(shown, None, kind, [gone])
    rules = Checked()
    if body is None:
        found = [Finding(1, "file.too-large", f"larger than {MAX_BYTES:,} bytes, so it was not read")]
    else:
        found, rules = check_body(body, root, path, deps.validation, deps.data_dir)
    report = _report(shown, hashlib.sha256(body).hexdigest() if body is not None else None, kind, found)
    if rules.troubles:
        report["rules"] = rules.troubles
    _store(report, deps)
    return report


def check_body(
    body: bytes, root: Path, path: PurePosixPath, validation: Validation, data_dir: Path
) -> tuple[list[Finding], Checked]:
    """All findings of a file, sorted, each once; and what the rules folder did. Raises OSError."""
    found = []
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = body.count(b"\n", 0, fault.start) + 1
        found.append(Finding(line, "file.encoding", f"byte {fault.start} is not UTF-8"))
        text = body.decode("utf-8", "replace")
    document = Document(root, path, "adr" if is_adr(path) else "note", text.replace("\r\n", "\n"))
    for rule in RULES:
        found += rule(document)
    checked = validation.rules(data_dir).check(document)
    return sorted({*found, *checked.findings}), checked


def _path(data: dict[str, Any]) -> str:
    path = data.get("path")
    if not isinstance(path, str) or not path.strip():
        raise PermanentFailure("data.path is required: the Markdown file that changed")
    return path


def _report(path: str, sha256: str | None, kind: str, findings: list[Finding]) -> dict[str, Any]:
    return {
        "path": path,
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
