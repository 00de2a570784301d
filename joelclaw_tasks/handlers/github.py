"""github/workflow_run.completed: the history of every workflow, and word when its outcome changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files
from joelclaw_tasks.handlers.deps import Deps
from joelclaw_tasks.handlers.fields import optional_count, optional_text, required_text

HISTORY_RUNS = 100
#: What a conclusion says of the code. Cancelled, skipped, neutral, stale, action_required say nothing.
_OUTCOMES = {"success": "success", "failure": "failure", "timed_out": "failure", "startup_failure": "failure"}
_NOTED = ("status", "event", "htmlUrl", "headSha", "actorLogin", "createdAt", "updatedAt", "deliveryId")


def record_run(event: Event, deps: Deps) -> dict[str, Any]:
    """Keep the run in the history of its repository, workflow and branch; notify when the outcome flips.

    When: a GitHub workflow run completed.
    What: the last 100 runs in run order (however they arrive), success rate, streak; a notification only when
        the newest run that says something differs from what was last announced.
    Idempotent because: a run is known by (repository, run id, attempt), and what was announced is kept.
    """
    run = _run(event.data)
    repository, workflow, branch = _identity(event.data)
    path = deps.data_dir / "github" / files.file_name(f"{repository} {workflow} {branch}".lower())
    with files.exclusive(path):
        history = files.read_document(path) or {
            "repository": repository, "workflow": workflow, "branch": branch, "announced": None, "runs": [],
        }  # fmt: skip
        recorded = _insert(history["runs"], run)
        summary = _summary(history["runs"])
        announced, outcome = history["announced"], summary["outcome"]
        changed = None not in (announced, outcome) and announced != outcome
        history |= summary
        if not changed:
            history["announced"] = announced or outcome
        if recorded:
            files.write_json(path, history)
        if changed:
            # Announced is written only after the notification, so that a crash in between repeats it.
            severity = "info" if outcome == "success" else "warning"
            deps.notify(
                _sentence(history), cause=f"github:{repository}:{workflow}:{branch}", severity=severity
            )
            files.write_json(path, history | {"announced": outcome})
    return {
        "repository": repository, "workflow": workflow, "branch": branch, "conclusion": run["conclusion"],
        "recorded": recorded, "changed": changed, "run_count": len(history["runs"]),
        "success_rate": summary["success_rate"], "streak": summary["streak"],
    }  # fmt: skip


def _identity(data: Mapping[str, Any]) -> tuple[str, str, str]:
    repository = required_text(data, "repository")
    branch = optional_text(data, "branch") or "(no branch)"
    fork = optional_text(data, "headRepository")
    if fork and fork.lower() != repository.lower():
        # A fork's pull request from its own `main` says nothing about our `main`.
        branch = f"{fork}:{branch}"
    workflow = optional_text(data, "workflowName")
    if workflow is None and optional_count(data, "workflowId") is not None:
        workflow = f"workflow {data['workflowId']}"
    return repository, workflow or required_text(data, "workflowName"), branch


def _run(data: Mapping[str, Any]) -> dict[str, Any]:
    run_id = data.get("runId")
    if isinstance(run_id, bool) or not isinstance(run_id, int | str) or run_id == "":
        raise PermanentFailure("data.runId must be a number or a text")
    run: dict[str, Any] = {
        "run_id": run_id,
        "run_number": optional_count(data, "runNumber") or 0,
        "attempt": optional_count(data, "runAttempt") or 1,
        "conclusion": (optional_text(data, "conclusion") or "unknown").lower(),
    }
    run.update({name: text for name in _NOTED if (text := optional_text(data, name, limit=1_000))})
    return run


def _order(run: Mapping[str, Any]) -> tuple[int, int, str, str]:
    """Run number first: a late finish of an older commit does not speak for the branch."""
    return run["run_number"], run["attempt"], run.get("updatedAt", ""), str(run["run_id"])


def _insert(runs: list[dict[str, Any]], run: dict[str, Any]) -> bool:
    """Put the run at its place, keep the newest 100; False when it was known or is older than those."""
    identity = (str(run["run_id"]), run["attempt"])
    if any((str(known["run_id"]), known["attempt"]) == identity for known in runs):
        return False
    runs.append(run)
    runs.sort(key=_order)
    del runs[:-HISTORY_RUNS]
    return any(kept is run for kept in runs)


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    outcomes = [_OUTCOMES[run["conclusion"]] for run in runs if run["conclusion"] in _OUTCOMES]
    if not outcomes:
        return {"outcome": None, "success_rate": None, "streak": None}
    length = _streak(outcomes)
    return {
        "outcome": outcomes[-1],
        "success_rate": round(outcomes.count("success") / len(outcomes), 4),
        "streak": {"outcome": outcomes[-1], "length": length, "before": _streak(outcomes[:-length])},
    }


def _streak(outcomes: list[str]) -> int:
    """How many at the end are alike."""
    length = 0
    while length < len(outcomes) and outcomes[-1 - length] == outcomes[-1]:
        length += 1
    return length


def _sentence(history: Mapping[str, Any]) -> str:
    newest = next(run for run in reversed(history["runs"]) if run["conclusion"] in _OUTCOMES)
    streak = history["streak"]
    failed = streak["outcome"] == "failure"
    now = "fails" if failed else "works again"
    if streak["length"] > 1:
        now += f" ({streak['length']} runs in a row)"
    one, many = ("success", "successes") if failed else ("failure", "failures")
    before = f" after {streak['before']} {one if streak['before'] == 1 else many}" if streak["before"] else ""
    number = f" Run {newest['run_number']}" if newest["run_number"] else " The run"
    actor = f" by {newest['actorLogin']}" if "actorLogin" in newest else ""
    link = f": {newest['htmlUrl']}" if "htmlUrl" in newest else "."
    where = f"{history['workflow']} on {history['repository']} {history['branch']}"
    return f"{where} {now}{before}.{number}{actor}{link}"
