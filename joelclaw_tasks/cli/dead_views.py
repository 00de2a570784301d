"""What the dead letter looks like on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import to_json
from joelclaw_tasks.cli.queue_parts import clock_time
from joelclaw_tasks.cli.terminal import line, table, text

if TYPE_CHECKING:
    from rich.console import Console

_ERROR_MOST = 160
_PLAIN = (
    "family", "handler", "queue", "priority", "claims", "retries", "kills", "admitted_at", "discarded_at",
    "signature",
)  # fmt: skip


def groups_view(groups: Sequence[Mapping[str, Any]], count: int, now_at: int) -> Callable[[Console], None]:
    """One row for each group of jobs that failed alike."""

    def view(console: Console) -> None:
        if not count:
            console.print(text("the dead letter is empty", "green"))
            return
        shown = sum(group["count"] for group in groups)
        rest = f", {shown} of them here" if shown < count else ""
        console.print(text(f"{count} dead{rest}", "bold"))
        listing = table("signature", "jobs", "last", "first", "error, place, sample", numeric=("jobs",))
        for group in groups:
            what = "\n".join((_short(group["error"]), group["place"] or "-", group["sample"]))
            listing.add_row(
                text(group["signature"]), text(group["count"]), text(_ago(group["last_at"], now_at)),
                text(_ago(group["first_at"], now_at)), text(what),
            )  # fmt: skip
        console.print(listing)

    return view


def dead_jobs_view(jobs: Sequence[Mapping[str, Any]], now_at: int) -> Callable[[Console], None]:
    """One row for each dead job."""

    def view(console: Console) -> None:
        if not jobs:
            console.print(text("no dead job fits"))
            return
        listing = table("job", "handler", "died", "tries", "error, signature", numeric=("tries",))
        for job in jobs:
            listing.add_row(
                text(job["id"]), text(job["handler"] or job["family"]),
                text(_ago(job["discarded_at"], now_at)), text(job["claims"]),
                text(f"{_short(job['error'])}\n{job['signature']}"),
            )  # fmt: skip
        console.print(listing)

    return view


def dead_job_view(job: Mapping[str, Any]) -> Callable[[Console], None]:
    """The error, where and how often, the traceback, the message."""

    def view(console: Console) -> None:
        console.print(line(text(job["id"], "bold"), text("dead", "red")))
        console.print(text(job.get("error") or "-", "red"))
        fields = table("field", "value")
        for name in _PLAIN:
            value = job.get(name)
            if value is not None and value != "":
                shown = clock_time(value) if name.endswith("_at") else value
                fields.add_row(text(name.removesuffix("_at").replace("claims", "tries"), "dim"), text(shown))
        console.print(fields)
        if job.get("traceback"):
            console.print(text(job["traceback"].rstrip()))
        console.print(text("payload", "bold"))
        console.print(text(to_json(job.get("payload"))))

    return view


def _ago(at: int | None, now_at: int) -> str:
    return "-" if at is None else f"{duration(max(0, now_at - at))} ago"


def _short(error: str | None) -> str:
    first = (error or "-").partition("\n")[0]
    return first if len(first) <= _ERROR_MOST else first[: _ERROR_MOST - 1] + "…"
