"""What a long queue costs: `python -m bench.scale`.

Prints what a claim costs with few jobs queued and with very many, how long the other tenants of a handler
wait for their starts with and without one that has queued very many jobs, and the bytes of a queued job
beside those of a message that stock Celery queues. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from bench.measure import percentile
from bench.processes import redis_server
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store

#: About what Celery's message of a small task takes; each has an id of its own in it.
_PAYLOAD = "x" * 920
_QUEUE = "celery"
_HANDLER = "bench.noop"
_SLACK_MS = 300_000
_BATCH = 200
_AT_ONCE = 8  # jobs that run at a time, as on a worker with eight threads
_JOB_S = 0.005
_ROUNDS = 5  # the best of them counts: noise only adds


@dataclass(frozen=True)
class Scale:
    """What was measured. `claim_us`, by jobs queued: Redis's own time to end one job and start the next."""

    jobs: int
    claim_us: dict[str, float]
    claim_ratio: float
    tenants: int
    tenant_start_p99_ms: dict[str, float]
    tenant_start_ratio: float
    bytes_per_job: dict[str, float]
    bytes_ratio: float


def jobs(count: int, tenant: str = "") -> Iterator[Job]:
    """Jobs as one handler gets them: of one lane, or of a tenant's lane."""
    gates = (f"share:{_HANDLER}={tenant}",) if tenant else ()
    for _ in range(count):
        job_id = str(uuid.uuid4())
        yield Job(
            job_id, _QUEUE, _HANDLER, _HANDLER, f"{_QUEUE}|{_HANDLER}|{tenant}", _PAYLOAD + job_id,
            gates=gates, slack_ms=_SLACK_MS,
        )  # fmt: skip


def batches(values: Iterable[Job]) -> Iterator[list[Job]]:
    """The jobs in lists of _BATCH."""
    batch: list[Job] = []
    for value in values:
        batch.append(value)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def queue_all(store: Store, values: Iterable[Job]) -> None:
    """Admit all of the jobs, many in one call."""
    for batch in batches(values):
        store.admit(batch)


def used_bytes(client: Any) -> int:
    """The memory of the data alone: without the buffers of clients and of the append-only file."""
    facts = client.info("memory")
    buffers = ("mem_aof_buffer", "mem_clients_normal", "mem_clients_slaves", "mem_replication_backlog")
    return int(facts["used_memory"]) - sum(int(facts.get(name, 0)) for name in buffers)


def settled(client: Any) -> None:
    """Wait until no rewrite of the append-only file is under way: it takes one of two cores, now and then."""
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.2)


def settle_us(client: Any, store: Store, count: int) -> float:
    """Microseconds of Redis for one `settle` that ends a job and starts the next.

    The lowest of ten parts: Redis measures by the clock, so whatever else runs here only adds.
    """
    parts, tags = [], [job.tag for job in store.claim([_QUEUE], 1, "bench").jobs]
    for _ in range(10):
        client.config_resetstat()
        for _ in range(count // 10):
            tags = [job.tag for job in store.settle(tags, [_QUEUE], 1, "bench")[1].jobs]
        parts.append(float(client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]))
    store.release(tags)
    return min(parts)


def starts_ms(store: Store, tenants: int, each: int) -> list[float]:
    """Each tenant queues `each` jobs, in turn; then all run. When those jobs started, from then on.

    Every job takes _JOB_S, and workers are never idle: what a start waits for is who goes first.
    """
    names = [f"tenant {number:03}" for number in range(tenants)]
    for _ in range(each):
        random.shuffle(names)
        for name in names:
            store.admit(list(jobs(1, name)))
    wanted = {f"{_QUEUE}|{_HANDLER}|{name}" for name in names}
    began_at, left, found, tags = time.perf_counter(), tenants * each, [], list[str]()
    while left:
        claimed = store.settle(tags, [_QUEUE], _AT_ONCE, "bench")[1].jobs
        now_ms = (time.perf_counter() - began_at) * 1000
        tags = [job.tag for job in claimed]
        time.sleep(_JOB_S)
        pipe = store.client.pipeline(transaction=False)
        for tag in tags:
            pipe.hget(store.keys.job(tag.partition("#")[0]), "lane")
        ours = sum(lane.decode() in wanted for lane in pipe.execute())
        found += [now_ms] * ours
        left -= ours
    store.complete(tags)
    return found


def measure(calm: Any, crowded: Any, count: int, few: int, tenants: int, each: int) -> Scale:
    """Run all of it on two empty Redis servers: with few jobs queued on `calm`, with very many on `crowded`.

    What is compared is measured on both in turn, so that another hour of the machine is no difference.
    """
    before = used_bytes(crowded)
    for batch in batches(jobs(count)):
        crowded.lpush(_QUEUE, *(job.payload for job in batch))
    stock = (used_bytes(crowded) - before) / count
    crowded.flushall()
    stores = {"without": Store(calm, Keys("{jc}:")), "with": Store(crowded, Keys("{jc}:"))}
    for name, queued in (("without", few), ("with", count)):
        before = used_bytes(crowded)
        stores[name].load_scripts()
        queue_all(stores[name], jobs(queued, "crowd"))
    ours = (used_bytes(crowded) - before) / count
    settled(crowded)
    claim_us = {str(few): settle_us(calm, stores["without"], few // 2)}
    claim_us[str(count)] = settle_us(crowded, stores["with"], few // 2)
    stores["without"].cancel_queue(_QUEUE, actor="bench", reason="done")
    waits = {name: float("inf") for name in stores}
    for _ in range(_ROUNDS):
        for name, store in stores.items():
            waits[name] = min(waits[name], percentile(starts_ms(store, tenants, each), 99))
    return Scale(
        jobs=count,
        claim_us={name: round(value, 1) for name, value in claim_us.items()},
        claim_ratio=round(claim_us[str(count)] / claim_us[str(few)], 2),
        tenants=tenants,
        tenant_start_p99_ms={name: round(value, 1) for name, value in waits.items()},
        tenant_start_ratio=round(waits["with"] / waits["without"], 2),
        bytes_per_job={"stock": round(stock, 1), "ours": round(ours, 1)},
        bytes_ratio=round(ours / stock, 2),
    )


def main() -> None:
    """Measure, and print a line for each of the three, and the last line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000_000, help="how many very many are")
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--tenants", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="jobs of each of the other tenants")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        clients = []
        for name in ("calm", "crowded"):
            (Path(directory) / name).mkdir()
            port = stack.enter_context(redis_server(Path(directory) / name))
            clients.append(stack.enter_context(redis.Redis(port=port)))
        scale = measure(*clients, options.jobs, options.few, options.tenants, options.each)
    claims = ", ".join(f"{us:.1f} µs with {queued} queued" for queued, us in scale.claim_us.items())
    waits, sizes = scale.tenant_start_p99_ms, scale.bytes_per_job
    print(f"claim:  {claims}: {scale.claim_ratio:.2f} times (wanted <= 2)")
    print(
        f"share:  {scale.tenants} tenants start within {waits['without']:.0f} ms (p99), and within "
        f"{waits['with']:.0f} ms beside one with {scale.jobs} jobs: "
        f"{scale.tenant_start_ratio:.2f} times (wanted <= 1.2)"
    )
    print(
        f"memory: {sizes['stock']:.0f} bytes a message in stock Celery, {sizes['ours']:.0f} a job here: "
        f"{scale.bytes_ratio:.2f} times (wanted <= 1.6)"
    )
    print(json.dumps(asdict(scale)))


if __name__ == "__main__":
    main()
