"""What a replay sent is noted, for a while, so that it can be told again."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from joelclaw_tasks import sent_log
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.replay import replay
from joelclaw_tasks.sent_log import Sent, SentLog
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Spool

NOTED = "discovery/noted"
DAY_MS = 86_400_000
Away = Callable[..., Emitter]


def noted(spool: Path) -> list[Sent | None]:
    return [sent for _, _, sent in SentLog(spool, DAY_MS).read()]


def sent(at: int, text: str = "x") -> Sent:
    return Sent(at, (text,), text.encode())


def test_each_event_that_is_sent_is_noted_with_the_jobs_that_redis_must_know(
    away: Away, settings: Settings, spool: Path, store: Store
):
    given = away().emit(NOTED, {"url": "http://a"}, id="a")
    away().emit(NOTED, {"url": "http://b"}, id="b", expires_s=0.001)
    Spool(spool).append([b"garbage"])
    line = spool.read_bytes().splitlines()[0]
    replay(settings)

    [first, expired] = noted(spool)
    assert ((given.jobs[0].job_id,), line) == (first.jobs, first.line)
    assert () == expired.jobs  # it was dropped on purpose
    assert abs(store.now_ms() - first.sent_at) < 5_000
    assert 0o600 == SentLog(spool, DAY_MS).path.stat().st_mode & 0o777


def test_what_arrived_by_an_earlier_try_is_noted_as_well(away: Away, settings: Settings, spool: Path):
    away().emit(NOTED, {"url": "http://a"}, id="a")
    [job] = Emitter.connect(settings).emit(NOTED, {"url": "http://a"}, id="a").jobs
    assert {"duplicate": 1} == replay(settings).decisions
    assert [(job.job_id,)] == [each.jobs for each in noted(spool)]


def test_one_that_is_killed_before_it_noted_sends_again_and_notes_then(
    away: Away, settings: Settings, spool: Path, monkeypatch: pytest.MonkeyPatch
):
    [job] = away().emit(NOTED, {"url": "http://a"}, id="a").jobs

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SentLog, "note", die)
        with pytest.raises(KeyboardInterrupt):
            replay(settings)
    assert [] == noted(spool)
    assert {"duplicate": 1} == replay(settings).decisions
    assert [(job.job_id,)] == [each.jobs for each in noted(spool)]


def test_a_full_disk_keeps_no_event_from_redis(away: Away, settings: Settings, spool: Path, store: Store):
    away().emit(NOTED, {"url": "http://a"}, id="a")
    script = f"""
        import resource, signal
        from pathlib import Path
        from joelclaw_tasks.replay import replay
        from joelclaw_tasks.settings import Settings
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))  # room for the number of what is done
        done = replay(Settings(redis_url={settings.redis_url!r}, spool=Path({str(spool)!r})))
        print(done.sent, done.unnoted)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert "1 1\n" == done.stdout
    assert ([], False) == (noted(spool), Spool(spool).has_lines())
    assert 1 == store.snapshot()["total"]


def test_a_line_with_an_impossible_time_is_kept_aside_and_holds_up_nothing(
    away: Away, settings: Settings, spool: Path
):
    Spool(spool).append([b'{"id": "x", "name": "discovery/noted", "data": {}, "at_ms": 1e999}'])
    away().emit(NOTED, {"url": "http://a"}, id="a")
    done = replay(settings)
    assert (1, 1) == (done.sent, done.refused)


def test_while_redis_is_away_nothing_is_noted(away: Away, settings: Settings, spool: Path):
    emitter = away()
    emitter.emit(NOTED, {"url": "http://a"}, id="a")
    elsewhere = Settings(redis_url="redis://127.0.0.1:1/0", spool=spool, registry_dir=settings.registry_dir)
    with pytest.raises(CoreUnreachable):
        replay(elsewhere)
    assert [] == noted(spool)
    assert Spool(spool).has_lines()


def test_it_keeps_between_one_and_two_times_as_long_as_it_must(spool: Path):
    spool.parent.mkdir()
    log = SentLog(spool, 1_000)
    for at in range(0, 5_000, 500):
        log.note([sent(at)])
    # The present file begins at 4,500, when the one before was older than 1,000.
    assert list(range(3_000, 5_000, 500)) == [each.sent_at for _, _, each in log.read()]
    assert 2 == len(list(spool.parent.iterdir()))


def test_it_never_takes_more_than_two_files_of_a_size(spool: Path, monkeypatch: pytest.MonkeyPatch):
    spool.parent.mkdir()
    monkeypatch.setattr(sent_log, "MOST_BYTES", 500)
    log = SentLog(spool, DAY_MS)
    for at in range(100):
        log.note([sent(at)])
    kept = [each.sent_at for _, _, each in log.read()]
    assert list(range(kept[0], 100)) == kept
    assert 10 < len(kept) < 30
    assert sum(path.stat().st_size for path in spool.parent.iterdir()) < 1_100


def test_what_nobody_needs_any_more_is_deleted(spool: Path):
    spool.parent.mkdir()
    log = SentLog(spool, 1_000)
    log.forget(0)
    assert [] == list(spool.parent.iterdir())
    log.note([sent(1)])
    now_ms = int(log.path.stat().st_mtime * 1000)
    log.forget(now_ms + 900)
    assert 1 == len(list(log.read()))
    log.forget(now_ms + 1_100)
    assert ([], []) == (list(log.read()), list(spool.parent.iterdir()))


def _note_many(spool: Path, name: int) -> None:
    log = SentLog(spool, DAY_MS)
    for number in range(100):
        log.note([sent(number, f"{name}-{number}")])
        if not number % 10:
            log.forget(0)


def test_several_at_once_lose_nothing_while_the_file_becomes_the_old_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
):
    spool.parent.mkdir()
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(sent_log, "MOST_BYTES", 10_000)  # of 300 entries, about 15,000 bytes
    writers = [context.Process(target=_note_many, args=(spool, name)) for name in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert 0 == writer.exitcode
    texts = [each.line.decode() for each in noted(spool)]
    assert sorted(f"{name}-{number}" for name in range(3) for number in range(100)) == sorted(texts)
    assert Path(f"{spool}.sent.old").exists()
    assert json.loads(Path(f"{spool}.sent").read_text().splitlines()[0])["jobs"]
