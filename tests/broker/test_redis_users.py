"""docs/redis-users.acl on a real Redis: each role can do its work, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
import redis
from workers import Site

from joelclaw_tasks.core.diagnoses import Diagnoses
from joelclaw_tasks.core.explain import Explainer
from joelclaw_tasks.core.health import Health, Look
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.core.passes import Passes
from joelclaw_tasks.core.rules import Rules, Triage
from joelclaw_tasks.core.score import Score
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.notify.console import Console
from joelclaw_tasks.notify.notification import Notification, mute_button
from joelclaw_tasks.notify.notifier import Notifier, Pace
from joelclaw_tasks.routines.check_process import look
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.conftest import free_port, start_redis, wait_until

ROOT = Path(__file__).resolve().parents[2]
USERS = ROOT / "docs/redis-users.acl"
#: Redis says it in one of these ways: for a command, inside a script, inside a script of Redis 7.
REFUSED = "NOPERM|permissions|can't (run|access)|ACL"
ROLES = ("worker", "producer", "operator", "viewer")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    # The file as it is, but for the one user who looks after the test, and the queue of its app.
    text = USERS.read_text().replace("user default off", "user default on nopass ~* &* +@all")
    users = tmp_path / "users.acl"
    users.write_text(text.replace("~default*", "~stranger*"))
    port = free_port()
    server = start_redis(tmp_path, port, "--aclfile", str(users))
    yield port
    server.terminate()
    server.wait(10)


@pytest.fixture
def root(port: int) -> Iterator[redis.Redis]:
    client = redis.Redis(port=port, decode_responses=True)
    yield client
    client.close()


def _url(port: int, role: str) -> str:
    return f"redis://{role}:change-me-{role}@127.0.0.1:{port}/0"


@pytest.fixture
def stores(port: int) -> Iterator[dict[str, Store]]:
    stores = {role: Store.connect(Settings(redis_url=_url(port, role))) for role in ROLES}
    yield stores
    for store in stores.values():
        store.client.close()


def _job(number: int) -> Job:
    return Job(id=f"j{number}", queue="q", family="f", handler="h", lane="q/h", payload="{}", slack_ms=0)


def _refused(root: redis.Redis) -> list[tuple[str, str]]:
    """What was refused to whom; redis-py introduces itself by CLIENT SETINFO and goes on without."""
    return [(entry["username"], entry["object"]) for entry in root.acl_log() if entry["object"] != "client"]


def _everything(root: redis.Redis) -> dict[str, bytes]:
    raw = redis.Redis(port=root.connection_pool.connection_kwargs["port"])
    try:
        return {key: raw.dump(key) for key in raw.keys("*")}
    finally:
        raw.close()


def test_each_role_does_its_work(root: redis.Redis, stores: dict[str, Store], port: int):
    stores["producer"].admit([_job(n) for n in range(6)])
    stores["operator"].pause("pause:handler/h", actor="ada", reason="a look", ttl_ms=None)
    stores["viewer"].snapshot()
    stores["operator"].resume("pause:handler/h", actor="ada", reason="done")
    stores["operator"].limit({"limit:handler/h": 2}, actor="ada", reason="slowly")
    first, second = stores["worker"].claim(["q"], 2, "w").jobs
    assert ["EXECUTING"] != stores["worker"].complete([first.tag])
    stores["worker"].discard(second.tag, "no")
    stores["operator"].revive([second.tag.split("#")[0]], actor="ada", reason="again")
    stores["operator"].cancel(["j5"], actor="ada", reason="not needed")
    queue = Queue(stores["operator"], Settings(redis_url=_url(port, "operator")), actor="ada")
    assert queue is not None
    viewer = stores["viewer"]
    assert 4 == viewer.snapshot()["by_state"]["available"]
    assert viewer.list_jobs()
    assert "available" == viewer.inspect("j3")["state"]
    assert Explainer(viewer).family("f")
    assert viewer.holders() is not None
    assert [] == _refused(root)


def test_triage_and_the_observer_get_by_with_it(root: redis.Redis, stores: dict[str, Store]):
    for role, name in (("producer", "a"), ("operator", "b")):
        job = _job(0)
        job.id, job.rules = name, Rules(triage=Triage(2_000)).encode()
        assert [Word.HELD] == stores[role].admit([job])
    taken = stores["worker"].take_unscored(5)
    scores = [Score(job["id"], {"score": 50}) for job in taken]
    assert [Word.SCORED, Word.SCORED] == stores["worker"].score(scores, actor="triage")
    assert not Passes(stores["viewer"]).look().began
    passes = Passes(stores["worker"])
    sight = passes.look(1_000)
    assert sight.began
    passes.record(sight.number, sight.taken_at, {"number": sight.number, "verdicts": []})
    assert 1 == len(Passes(stores["viewer"]).recent())
    assert [] == _refused(root)


def test_diagnosis_gets_by_with_it(root: redis.Redis, stores: dict[str, Store]):
    for number, role in enumerate(("worker", "operator"), 1):
        diagnoses = Diagnoses(stores[role])
        diagnoses.suspect("f")
        assert (f"d{number}", True) == diagnoses.begin({"at": 0}, free=[role], hold=[role])
        assert diagnoses.end(f"d{number}", {"at": 1}, held=[role])
        assert f"d{number}" == diagnoses.holder([role])
        assert ["f"] == diagnoses.suspects()
        diagnoses.seen_to("f")
    assert (
        "ada"
        == Diagnoses(stores["operator"]).judge("d1", "accepted", actor="ada", reason="")["verdict"]["actor"]
    )
    assert ["d2", "d1"] == [each["id"] for each in Diagnoses(stores["viewer"]).recent()]
    assert [] == _refused(root)


@pytest.mark.parametrize("role", ["viewer"])
def test_a_viewer_changes_nothing(root: redis.Redis, stores: dict[str, Store], role: str):
    stores["producer"].admit([_job(n) for n in range(3)])
    before = _everything(root)
    viewer = stores[role]
    for act in (
        lambda: viewer.admit([_job(9)]),
        lambda: viewer.claim(["q"], 1, "thief"),
        lambda: viewer.pause("pause:handler/h", actor="eve", reason="", ttl_ms=None),
        lambda: viewer.cancel(["j1"], actor="eve", reason=""),
        lambda: viewer.client.delete("{jc}:counts"),
        lambda: viewer.client.eval("return redis.call('DEL', KEYS[1])", 1, "{jc}:counts"),
    ):
        with pytest.raises(redis.ResponseError, match=REFUSED):
            act()
    assert before == _everything(root)


def _everything(root: redis.Redis) -> dict[bytes, bytes]:
    return {key: root.dump(key) for key in sorted(root.keys())}


def test_a_producer_neither_claims_nor_steers(root: redis.Redis, stores: dict[str, Store]):
    producer = stores["producer"]
    producer.admit([_job(n) for n in range(3)])
    assert producer.was_admitted(_job(0).id, monotonic() - 5)
    root.zadd("{jc}:timers", {"lease|somebody": 1})  # a claim would take back what it holds
    before = _everything(root)
    for act in (
        lambda: producer.claim(["q"], 1, "thief"),
        lambda: producer.renew("thief", {}),
        lambda: producer.pause("pause:handler/h", actor="eve", reason="", ttl_ms=None),
        lambda: producer.client.hgetall("{jc}:holders"),
        lambda: producer.client.zrange("{jc}:leases:w", 0, -1),
    ):
        with pytest.raises(redis.ResponseError, match=REFUSED):
            act()
    assert before == _everything(root)
    assert 3 == len(stores["worker"].claim(["q"], 5, "w").jobs)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_gets_at_the_server_or_at_other_keys(port: int, role: str):
    client = redis.Redis.from_url(_url(port, role))
    for command in (
        ["FLUSHALL"], ["FLUSHDB"], ["KEYS", "*"], ["CONFIG", "GET", "*"],
        ["CONFIG", "SET", "maxmemory", "0"],
        ["SHUTDOWN"], ["ACL", "LIST"], ["DEBUG", "SLEEP", "0"], ["CLIENT", "KILL", "ID", "1"],
        ["SCRIPT", "FLUSH"],
        ["GET", "somebody-elses"], ["SET", "somebody-elses", "1"], ["REPLICAOF", "NO", "ONE"], ["MONITOR"],
    ):  # fmt: skip
        # Redis 7 refuses DEBUG to everybody, before it looks at the user.
        with pytest.raises(redis.ResponseError, match=f"{REFUSED}|DEBUG command not allowed"):
            client.execute_command(*command)
    client.close()


def test_a_worker_and_a_producer_of_celery_get_by_with_it(root: redis.Redis, port: int, tmp_path: Path):
    site = Site(_url(port, "producer"))
    site.store = Store.connect(Settings(redis_url=_url(port, "viewer")))
    worker = site.start("threads", url=_url(port, "worker"), gossip=True).wait_ready()
    try:
        assert 3 == site.add.delay(1, 2).get(timeout=15)
        assert 7 == site.add.apply_async((3, 4), countdown=0.2).get(timeout=15)
        failed = site.fail.delay("no")
        assert "ValueError: no" == site.wait_dead(failed.id)["error"]
        wait_until(lambda: site.states() == {"discarded": 1}, "all is done")
        assert worker.process.poll() is None
        assert [] == _refused(root)
    finally:
        site.close()


@pytest.mark.parametrize("role", ["worker", "operator"])
def test_workers_and_operators_tell_and_mute_and_a_viewer_sees_it(
    stores: dict[str, Store], root: redis.Redis, role: str
) -> None:
    notices = Notices(stores[role])
    notifier = Notifier(notices, [Console()], Pace())
    said = Notification.clean("full", cause="disk", severity="error", buttons=(mute_button("disk"),))

    assert ["told", "held"] == [notifier.tell(said), notifier.tell(said)]
    assert {"digest": 1, "waiting": {"console": 0}} == notifier.run_due(is_forced=True)
    notices.refused("x", ["1"], "no", now_ms=1)
    notices.away("x", "no", now_ms=1)
    notices.mute("disk", notices.now_ms() + 60_000, actor="joel", reason="")
    assert (None, "joel: is being done") == (notices.press("b", "joel"), notices.press("b", "joel"))
    notices.pressed("b", "joel", "muted")
    notices.unpress("b")
    notices.keep_task("disk", "t1")

    viewer = Notices(stores["viewer"])
    assert ["disk"] == list(viewer.mutes())
    assert ["refused", "held", "told"] == [entry["word"] for entry in viewer.log()]
    assert ([], 2) == (viewer.held(), viewer.sink("console")["sent_last_hour"])
    with pytest.raises(redis.exceptions.NoPermissionError):
        viewer.mute("other", 1, actor="v", reason="")


def test_workers_keep_what_the_health_pulse_finds_and_a_viewer_sees_it(stores: dict[str, Store], port: int):
    health = Health(stores["worker"])
    health.keep(Look("1", "nas", "healthy", "takes connections", 2.0))
    for number in (2, 3):
        health.keep(Look(str(number), "nas", "down", "takes no connection"))
    health.tell("nas", "down")
    asked = {
        "redis_url": _url(port, "worker"),
        "key_prefix": "{jc}:",
        "timeout_s": 2,
        "queues": ["io"],
        "look": "x",
    }
    asked |= {"started_at": 0, "every_ms": 60_000}

    found = [look({**asked, "kind": kind}).status for kind in ("redis", "beat", "workers")]

    assert ["degraded", "healthy", "down"] == found
    for role in ("operator", "viewer"):
        seen = Health(stores[role])
        assert ("down", 0) == (seen.checks(["nas"])["nas"].state, seen.checks(["nas"])["nas"].restarts)
        assert ["healthy", "down"] == [turn.state for turn in seen.turns("nas", 0)]
        assert [(3, 2)] == [(hour.looks, hour.bad) for hour in seen.hours("nas", 0)]
