"""Writes histories by hand: a run without faults, to which a test adds what went wrong."""

from __future__ import annotations

from chaos.history import History

#: The epoch begins with the monotonic clock here, so that 1.5 in one is 1500 in the other.
RUN = {
    "kind": "run", "at": 0.0, "epoch_s": 0.0, "max_kills": 3, "fails": ["failing"],
    "limits": {"limit:handler/limited": 2, "limit:key/keyed": 1}, "rates": {"rated": [10, 1.0, 2]},
}  # fmt: skip


class Story:
    """Each method adds what happened at a time in seconds; `job` is also the number of its only life."""

    def __init__(self) -> None:
        self.lines: list[dict] = [dict(RUN)]

    @property
    def history(self) -> History:
        return History(self.lines)

    def line(self, kind: str, at: float, **fields) -> Story:
        self.lines.append({"kind": kind, "at": at, **fields})
        return self

    def move(self, at: float, verb: str, job: str, source: str | None, to: str, **fields) -> Story:
        moved = {"verb": verb, "job": job, "from": source, "to": to, "family": "plain", **fields}
        return self.line("move", round(at * 1000), **{name: value for name, value in moved.items() if value})

    def accept(self, job: str, at: float) -> Story:
        return self.line("accepted", at, job=job).move(at, "admit", job, None, "available")

    def claim(self, job: str, at: float, *, attempt: int = 1, **fields) -> Story:
        return self.move(at, "claim", job, "available", "executing", attempt=str(attempt), **fields)

    def start(self, tag: str, at: float, *, family: str = "plain", gates=(), worker="w1", pid=1) -> Story:
        return self.line("start", at, tag=tag, family=family, gates=list(gates), worker=worker, pid=pid)

    def end(self, tag: str, at: float) -> Story:
        return self.line("end", at, tag=tag)

    def settle(self, verb: str, job: str, at: float, to: str, *, attempt: int = 1) -> Story:
        return self.move(at, verb, job, "executing", to, attempt=str(attempt))

    def run(self, job: str, at: float, until: float, **fields) -> Story:
        """A job whose life is quite ordinary: accepted and claimed at `at`, completed at `until`."""
        tag = f"{job}#{round(at * 1000)}#1"
        self.accept(job, at).claim(job, at).start(tag, at, **fields).end(tag, until)
        return self.settle("complete", job, until, "completed")

    def control(self, verb: str, gate: str, asked_at: float, acked_at: float | None, value=None) -> Story:
        if acked_at is not None:
            self.line("move", round(acked_at * 1000), verb=verb, gate=gate)
        return self.line(
            "control",
            asked_at,
            verb=verb,
            gate=gate,
            value=value,
            asked_at=asked_at,
            acked_at=acked_at,
            changed=True,
        )

    def fault(self, name: str, at: float, until: float, **fields) -> Story:
        return self.line("fault", at, name=name, until=until, **fields)

    def rest(self, *, quiet: bool = True, left=None, violations=(), **by_state: int) -> Story:
        return self.line(
            "rest", 99.0, quiet=quiet, by_state=by_state, left=left or {}, violations=list(violations)
        )
