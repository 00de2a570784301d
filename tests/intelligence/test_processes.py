"""A client works in the pools that Celery has: after a fork, and among greenlets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from joelclaw_tasks.intelligence.local.server import MessagesApi
from tests.intelligence.conftest import KEY, a_score

DECIDE = """
import sys
from tests.intelligence.conftest import *

store = Store(redis.Redis.from_url(sys.argv[1]), Keys("{jc}:"))
client = ModelClient(tiers(), Spending(store), Credentials(KEY), base_url=sys.argv[2])
client.warm_up()

def decide():
    decision = client.decide(a_question(), budget_ms=5_000)
    return decision.last.reason or "answered"
"""
FORKED = """
import os

print(decide(), flush=True)
[kept] = client._connections._idle
child = os.fork()
if not child:
    assert kept is not client._connections.take(), "its socket is the parent's"
print(decide(), flush=True)
if child:
    assert kept is client._connections._idle[0], "and the parent goes on using it"
    sys.exit(os.waitpid(child, 0)[1])
"""
GREEN = """
import gevent

print(*(greenlet.value for greenlet in gevent.joinall([gevent.spawn(decide) for _ in range(3)])), sep="\\n")
"""


@pytest.mark.parametrize(
    "code",
    [DECIDE + FORKED, "from gevent import monkey; monkey.patch_all()\n" + DECIDE + GREEN],
    ids=["prefork", "gevent"],
)
def test_it_answers_in_each_pool(api: MessagesApi, redis_url: str, code: str):
    api.rule = lambda _: a_score()

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, redis_url, api.url],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip

    assert (["answered"] * 3, 0) == (done.stdout.split(), done.returncode), done.stderr
    assert {f"Bearer {KEY}"} == {asked.headers["authorization"] for asked in api.requests}
