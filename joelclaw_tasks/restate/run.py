"""Run: one run of a plan inside the workflow. Whatever is done here is done alike when it is replayed.

    waiting ──all it depends on is there──► running ──► completed | failed | cancelled
       └──────the run is stopped──────► skipped

Steps begin as soon as they can, in the order of the plan. Everything that is waited for is in `_pending`:
steps in invocations of their own, promises of approvals, and timers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import restate

from joelclaw_tasks.restate.plan import (
    MOST_ELEMENTS,
    MOST_IN_RUN,
    ApprovalNode,
    HttpNode,
    Plan,
    Request,
    Retries,
    Task,
    TaskNode,
    WaitNode,
)
from joelclaw_tasks.restate.references import ITEM, BadReference, resolved
from joelclaw_tasks.restate.steps import Handler

RUN_STATE, NODE_STATE, PLAN_STATE, CANCEL = "run", "node/", "plan", "cancel"
#: Of an output at most so much is kept with the state of its node, for people to see.
SHOWN_BYTES = 2_048
_UNDO_RETRIES = Retries(max=5, base_s=1.0, cap_s=30.0)
_CANCELLED = 409


def promise_of(node: str) -> str:
    """The name of the promise of an approval."""
    return f"approval/{node}"


@dataclass(slots=True)
class _Progress:
    """A node that has begun. `elements`: by number (one without for_each); `ends`: what each became."""

    node: HttpNode | TaskNode | ApprovalNode | WaitNode
    elements: list[Any]
    record: dict[str, Any]
    ends: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def many(self) -> bool:
        return getattr(self.node, "for_each", None) is not None


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: str  # step, wait, timeout, approval or deadline
    id: str
    number: int = 0


class Run:
    """Carries a plan out. `run_step` and `tell` are the handlers of the step service."""

    def __init__(
        self, ctx: restate.WorkflowContext, plan: Plan, run_step: Handler, tell: Handler, now_ms: int
    ) -> None:
        self._ctx, self._plan = ctx, plan
        self._run_step, self._tell = run_step, tell
        self.outputs: dict[str, Any] = {}
        #: Why nothing new begins: (status, reason); None while all is well.
        self.stopped: tuple[str, str] | None = None
        self._by_id = {node.id: node for node in plan.nodes}
        self._needs = {node.id: set(node.depends_on) for node in plan.nodes}
        self._dependents: dict[str, list[str]] = {}
        for node in plan.nodes:
            for need in dict.fromkeys(node.depends_on):
                self._dependents.setdefault(need, []).append(node.id)
        self._ready = [node.id for node in plan.nodes if not self._needs[node.id]]
        self._begun: dict[str, _Progress] = {}
        self._pending: dict[Any, _Waiting] = {}
        self._elements = 0
        self._now_ms = now_ms
        #: By the admin API, which raises a TerminalError wherever something is waited for.
        self._is_cancelled = False

    async def carry_out(self) -> None:
        """Until every node has ended, or the run was stopped and what ran has ended. Undoes nothing."""
        cancel = self._ctx.promise(CANCEL, type_hint=dict).value()
        is_asked = False
        while True:
            if self._is_cancelled:
                await self._stop("cancelled", "cancelled over the admin API of Restate")
            await self._begin_ready()
            if not self._pending:
                return
            futures = list(self._pending) if is_asked else [cancel, *self._pending]
            try:
                done, _ = await restate.wait_completed(*futures)
                self._now_ms = round(1_000 * await self._ctx.time())
            except restate.TerminalError:
                self._is_cancelled = True
                continue
            for future in done:
                if future is cancel:
                    is_asked = True
                    asked = await cancel
                    reason = f": {asked['reason']}" if asked.get("reason") else ""
                    await self._stop("cancelled", f"cancelled by {asked['by']}{reason}")
                elif future in self._pending:
                    await self._settle(future, self._pending.pop(future))

    async def undo(self) -> list[str]:
        """Take back what has begun, the latest first; answers what could not be taken back."""
        faults: list[str] = []
        for id, progress in reversed(self._begun.items()):
            step = progress.node.undone_by
            if step is None:
                continue
            said = []
            for number in reversed(range(len(progress.elements))):
                fault = await self._undo_one(progress, step, number)
                said += [fault] if fault else []
            progress.record["undo"] = said[0] if said else "done"
            self._keep(id)
            faults += [f"{id}: {fault}" for fault in said]
        return faults

    def skip_rest(self) -> None:
        """Note of what has not begun that it never will."""
        for node in self._plan.nodes:
            if node.id not in self._begun:
                self._ctx.set(f"{NODE_STATE}{node.id}", {"state": "skipped"})

    # -- begin --------------------------------------------------------------------------------

    async def _begin_ready(self) -> None:
        while self._ready and self.stopped is None:
            node = self._by_id[self._ready.pop(0)]
            record: dict[str, Any] = {"state": "running", "type": node.type, "began_at": self._now_ms}
            progress = self._begun[node.id] = _Progress(node, [None], record)
            match node:
                case ApprovalNode():
                    self._ask(node, record)
                case WaitNode():
                    self._pending[self._ctx.sleep(timedelta(seconds=node.seconds))] = _Waiting(
                        "wait", node.id
                    )
                case HttpNode() | TaskNode():
                    await self._start(node, progress)
            self._keep(node.id)

    async def _start(self, node: HttpNode | TaskNode, progress: _Progress) -> None:
        try:
            if node.for_each is not None:
                elements = resolved(node.for_each, self.outputs)
                if not isinstance(elements, list) or len(elements) > MOST_ELEMENTS:
                    raise BadReference(f"for_each is no list of at most {MOST_ELEMENTS:,} elements")
                self._elements += len(elements)
                if self._elements > MOST_IN_RUN:
                    raise BadReference(f"one run has more than {MOST_IN_RUN:,} elements")
                progress.elements = elements
                progress.record["of"] = len(elements)
            inputs = [self._input(node, progress, number) for number in range(len(progress.elements))]
        except BadReference as error:
            progress.elements = []  # none has begun: there is nothing to take back
            await self._fail(node.id, str(error))
            return
        for number, step in enumerate(inputs):
            name = f"{node.id}.{number}" if progress.many else node.id
            self._pending[self._call(name, step, node.retries)] = _Waiting("step", node.id, number)
        if not inputs:
            self._complete(node.id, [])
        elif node.timeout_s is not None:
            self._pending[self._ctx.sleep(timedelta(seconds=node.timeout_s))] = _Waiting("timeout", node.id)

    def _call(self, name: str, step: dict[str, Any], retries: Retries) -> Any:
        asked = {"run": self._ctx.key(), "id": name, "step": step, "retries": retries.model_dump()}
        return self._ctx.service_call(self._run_step, arg=asked)

    def _input(self, step: Request | Task, progress: _Progress, number: int) -> dict[str, Any]:
        known = dict(self.outputs)
        if progress.many:
            known[ITEM] = progress.elements[number]
        if number in progress.ends:
            known[progress.node.id] = progress.ends[number]
        if isinstance(step, Task):
            data = resolved(step.data, known)
            if not isinstance(data, dict):
                raise BadReference("the data of its event is no object")
            return {"type": "task", "handler": step.handler, "data": data, "priority": step.priority}
        url = resolved(step.url, known)
        if not isinstance(url, str):
            raise BadReference("its url is no text")
        return {
            "type": "http", "method": step.method, "url": url, "headers": step.headers,
            "body": resolved(step.body, known), "answer_s": step.answer_s,
        }  # fmt: skip

    def _ask(self, node: ApprovalNode, record: dict[str, Any]) -> None:
        until_at = self._now_ms + round(node.timeout_s * 1_000)
        default = "approved" if node.on_timeout == "approve" else "denied"
        record |= {"question": node.question, "until_at": until_at, "on_timeout": default}
        promise = self._ctx.promise(promise_of(node.id), type_hint=dict)
        self._pending[promise.value()] = _Waiting("approval", node.id)
        self._pending[self._ctx.sleep(timedelta(seconds=node.timeout_s))] = _Waiting("deadline", node.id)
        until = f"{datetime.fromtimestamp(until_at / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        self._say({**record, "run": self._ctx.key(), "node": node.id, "until": until})

    # -- settle -------------------------------------------------------------------------------

    async def _settle(self, future: Any, waiting: _Waiting) -> None:
        progress = self._begun[waiting.id]
        match waiting.kind:
            case "step":
                await self._settle_step(future, waiting, progress)
            case "wait":
                self._complete(waiting.id, {"waited_s": getattr(progress.node, "seconds", 0.0)})
            case "approval":
                await self._settle_approval(await future, waiting.id, progress)
            case "deadline":
                approved = progress.record["on_timeout"] == "approved"
                await self._answer(waiting.id, approved, "timeout", "nobody answered in time")
            case "timeout":
                progress.record["error"] = f"not done within {getattr(progress.node, 'timeout_s', 0):g} s"
                await self._cancel_steps(waiting.id)

    async def _settle_step(self, future: Any, waiting: _Waiting, progress: _Progress) -> None:
        try:
            progress.ends[waiting.number] = await future
        except restate.TerminalError as error:
            progress.errors[waiting.number] = (
                "cancelled" if error.status_code == _CANCELLED else error.message
            )
        if len(progress.ends) + len(progress.errors) < len(progress.elements):
            return
        self._forget_timers(waiting.id)
        if progress.errors:
            first = min(progress.errors)
            reason = progress.errors[first]
            stopped_with = {*progress.errors.values()} == {"cancelled"} and "error" not in progress.record
            if stopped_with and self.stopped is not None:
                progress.record["state"] = "cancelled"
                self._ended(waiting.id)
                return
            place = f"element {first}: " if progress.many else ""
            await self._fail(waiting.id, progress.record.get("error") or place + reason)
        else:
            ends = [progress.ends[number] for number in range(len(progress.elements))]
            self._complete(waiting.id, ends if progress.many else ends[0])

    async def _settle_approval(self, answer: dict[str, Any], id: str, progress: _Progress) -> None:
        self._forget_timers(id)
        progress.record["answer"] = answer
        self._say(
            {"plan": self._plan.name, "run": self._ctx.key(), "node": id,
             "approved": answer["approved"], "by": answer["by"]}
        )  # fmt: skip
        if answer["approved"]:
            self._complete(id, answer)
            return
        note = f": {answer['note']}" if answer.get("note") else ""
        await self._fail(id, f"denied by {answer['by']}{note}")

    async def _answer(self, id: str, approved: bool, by: str, note: str) -> None:
        """Answer an approval, unless somebody has just done so: the promise decides."""
        answer = {"approved": approved, "by": by, "at": self._now_ms, "note": note}
        try:
            await self._ctx.promise(promise_of(id), type_hint=dict).resolve(answer)
        except restate.TerminalError as error:
            self._is_cancelled |= error.message == "cancelled"

    def _say(self, about: dict[str, Any]) -> None:
        self._ctx.service_send(self._tell, arg={"plan": self._plan.name, **about})

    # -- ends ---------------------------------------------------------------------------------

    def _complete(self, id: str, output: Any) -> None:
        record = self._begun[id].record
        self.outputs[id] = output
        text = json.dumps(output, ensure_ascii=False)
        record["state"] = "completed"
        record["output"] = output if len(text) <= SHOWN_BYTES else text[:200] + "…"
        self._ended(id)
        for dependent in self._dependents.get(id, ()):
            self._needs[dependent].discard(id)
            if not self._needs[dependent]:
                self._ready.append(dependent)

    async def _fail(self, id: str, reason: str) -> None:
        record = self._begun[id].record
        record["state"], record["error"] = "failed", reason[:1_000]
        self._ended(id)
        await self._stop("failed", f"{id}: {reason[:1_000]}")

    async def _stop(self, status: str, reason: str) -> None:
        """Begin nothing new, and end what can be ended; what it was stopped for first counts."""
        if self.stopped is not None:
            return
        self.stopped = (status, reason)
        for waiting in list(self._pending.values()):
            if waiting.kind == "approval":
                await self._answer(waiting.id, False, "run", f"the run has ended: {reason[:200]}")
            if waiting.kind in ("approval", "wait"):
                self._begun[waiting.id].record["state"] = "cancelled"
                self._ended(waiting.id)
        await self._cancel_steps(None)
        self._pending = {f: waiting for f, waiting in self._pending.items() if waiting.kind == "step"}

    async def _cancel_steps(self, id: str | None) -> None:
        for future, waiting in list(self._pending.items()):
            if waiting.kind == "step" and id in (None, waiting.id):
                try:
                    await future.cancel_invocation()
                except restate.TerminalError:
                    self._is_cancelled = True
                    await future.cancel_invocation()

    async def _undo_one(self, progress: _Progress, step: Request | Task, number: int) -> str | None:
        id = progress.node.id
        name = f"{id}.{number}.undo" if progress.many else f"{id}.undo"
        try:
            await self._call(name, self._input(step, progress, number), _UNDO_RETRIES)
        except BadReference as error:
            return f"not taken back, {error}"
        except restate.TerminalError as error:
            return f"not taken back, {error.message[:500]}"
        return None

    def _forget_timers(self, id: str) -> None:
        timers = ("timeout", "deadline")
        self._pending = {f: w for f, w in self._pending.items() if not (w.id == id and w.kind in timers)}

    def _ended(self, id: str) -> None:
        self._begun[id].record["ended_at"] = self._now_ms
        self._keep(id)

    def _keep(self, id: str) -> None:
        self._ctx.set(f"{NODE_STATE}{id}", self._begun[id].record)
