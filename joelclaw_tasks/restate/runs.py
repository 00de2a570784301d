"""Runs: what people and programs do with DAGs from outside: start, look, cancel, answer approvals."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from joelclaw_tasks.errors import JoelclawError, RestateFailed, RestateRefused
from joelclaw_tasks.restate.client import RestateClient, Sent, Target
from joelclaw_tasks.restate.plan import ID_PATTERN
from joelclaw_tasks.settings import Settings

SERVICE = "Dag"
_UNKNOWN = "404:"
_NO_SERVICE = "Restate answered 404: service"
_BEGINS_WITHIN_S = 5.0
_Answer = TypeVar("_Answer")
#: What the members of a record say exactly is looked at here. An answer has room for so many questions.
_OPEN_APPROVALS = (
    "SELECT service_key, key, value_utf8 FROM state WHERE service_name = 'Dag' AND key LIKE 'node/%' "
    """AND value_utf8 LIKE '%"question"%' AND value_utf8 LIKE '%"state"%"running"%' LIMIT 300"""
)
_NEWEST_RUNS = (
    "SELECT state.service_key, state.value_utf8 FROM state JOIN sys_invocation AS run "
    "ON run.target_service_key = state.service_key WHERE state.service_name = 'Dag' AND state.key = 'run' "
    "AND run.target_service_name = 'Dag' AND run.target_handler_name = 'run' ORDER BY run.created_at DESC"
)


class UnknownRun(JoelclawError):
    """No run has that id, or it ended more than a week ago."""

    code = "DAG_UNKNOWN"
    fix = "`joelclaw dag list` prints the ids of runs."


class RunExists(JoelclawError):
    """A run of that id was started before; nothing was changed."""

    code = "DAG_EXISTS"
    fix = "Give another --id, or none; `joelclaw dag status <id>` shows the one that is there."


class RunOver(JoelclawError):
    """The run has ended, or is being cancelled already; nothing was changed."""

    code = "DAG_OVER"
    fix = "`joelclaw dag status <id>` shows how it ended."


class ApprovalUnknown(JoelclawError):
    """The run has no approval of that name that was asked for yet."""

    code = "APPROVAL_UNKNOWN"
    fix = "`joelclaw approvals list` prints what waits for an answer."


class ApprovalAnswered(JoelclawError):
    """The approval was answered before, or its time is over; nothing was changed. `answer` is that answer."""

    code = "APPROVAL_ANSWERED"
    fix = "The first answer counts; `joelclaw dag status <id>` shows what came of it."

    def __init__(self, message: str, answer: dict[str, Any]) -> None:
        super().__init__(message)
        self.answer = answer


class ServiceAway(JoelclawError):
    """Restate answers, and nobody has registered the services of DAGs with it."""

    code = "DAG_SERVICE_AWAY"
    fix = "Start it: `joelclaw up --with-restate` runs it, and `joelclaw restate serve` runs it alone."


class Runs:
    """Every method raises RestateAway, SettingsError without the addresses of Restate, and ServiceAway."""

    def __init__(self, client: RestateClient) -> None:
        self._client = client

    @classmethod
    def of(cls, settings: Settings) -> Runs:
        """By the settings. Raises SettingsError."""
        return cls(RestateClient.of(settings))

    def start(self, document: bytes, run: str | None = None) -> tuple[str, Sent]:
        """Start a plan that was checked (see `read_plan`); its id and what Restate said. Raises RunExists."""
        run = f"dag-{uuid.uuid4().hex[:12]}" if run is None else run
        if re.fullmatch(ID_PATTERN, run) is None:
            raise UnknownRun(
                f"{run[:80]!r} is no id of a run", fix="Use 1 to 64 letters, digits, _ and -, and no space."
            )
        sent = self._asked(lambda: self._client.send(Target(SERVICE, "run", run), document))
        if sent.status != "Accepted":
            raise RunExists(f"run {run} was started before")
        return run, sent

    def status(self, run: str) -> dict[str, Any]:
        """What a run does; see docs/dag.md. Raises UnknownRun."""
        found: dict[str, Any] = self._call(run, "status", None)
        return found

    def cancel(self, run: str, *, by: str, reason: str = "") -> None:
        """Stop a run and let it take back what it did. Raises UnknownRun and RunOver."""
        said = self._call(run, "cancel", {"by": by, "reason": reason})
        if said["word"] == "over":
            raise RunOver(f"run {run} is over: {said['answer']['status']}")
        if said["word"] == "before":
            raise RunOver(f"run {run} is being cancelled already, by {said['answer']['by']}")

    def answer(self, run: str, node: str, *, approved: bool, by: str, note: str = "") -> dict[str, Any]:
        """Answer an approval; the answer as it is kept: `{approved, by, at, note}`.

        Raises UnknownRun, ApprovalUnknown and ApprovalAnswered.
        """
        said = self._call(run, "answer", {"node": node, "approved": approved, "by": by, "note": note})
        if said["word"] == "not_open":
            raise ApprovalUnknown(f"run {run} has asked for no approval {node[:64]!r} yet")
        answer: dict[str, Any] = said["answer"]
        if said["word"] == "before":
            word = "approved" if answer["approved"] else "denied"
            raise ApprovalAnswered(f"{node} was {word} before, by {answer['by']}", answer)
        return answer

    def approvals(self) -> list[dict[str, Any]]:
        """What waits for an answer, the most urgent first: `{run, node, question, began_at, until_at, …}`."""
        rows = self._client.query(_OPEN_APPROVALS)
        found = []
        for row in rows:
            record = _record(row["value_utf8"])
            if record.get("state") == "running" and "question" in record:
                about = {name: record[name] for name in ("question", "began_at", "until_at", "on_timeout")}
                found.append({"run": row["service_key"], "node": row["key"].removeprefix("node/"), **about})
        return sorted(found, key=lambda one: (one["until_at"], one["run"], one["node"]))

    def list(self, most: int = 50) -> list[dict[str, Any]]:
        """Runs, the newest first: `{run, name, status, began_at, ended_at, reason}`."""
        rows = self._client.query(f"{_NEWEST_RUNS} LIMIT {int(most)}")
        return [{"run": row["service_key"], **_record(row["value_utf8"])} for row in rows]

    def close(self) -> None:
        """End its connections."""
        self._client.close()

    def _call(self, run: str, handler: str, said: dict[str, Any] | None) -> Any:
        body = None if said is None else json.dumps(said).encode()
        target = Target(SERVICE, handler, run)
        ends_at, is_last = time.monotonic() + _BEGINS_WITHIN_S, False
        while True:
            try:
                return self._asked(lambda: self._client.call(target, body, within_s=10.0).value)
            except RestateFailed as error:
                if not str(error).startswith(_UNKNOWN):
                    raise
            if is_last:
                raise UnknownRun(f"no run has the id {run[:80]!r}")
            # It may have been taken just now and not have begun, or have ended since it was asked.
            is_last = time.monotonic() >= ends_at or not self._client.is_under_way(SERVICE, run)
            if not is_last:
                time.sleep(0.05)

    def _asked(self, ask: Callable[[], _Answer]) -> _Answer:
        try:
            return ask()
        except RestateRefused as error:
            if str(error).startswith(_NO_SERVICE):
                raise ServiceAway("nobody has registered the services of DAGs with Restate") from None
            raise


def _record(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
