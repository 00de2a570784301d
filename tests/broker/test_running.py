"""What may be given back, and what must not, because it may have started."""

from __future__ import annotations

from types import SimpleNamespace
from weakref import ref

from billiard.pool import ApplyResult

from joelclaw_tasks.broker.running import give_back, may_start
from joelclaw_tasks.core.states import Word


def test_what_started_is_kept_and_what_was_given_back_does_not_start():
    started, waiting = SimpleNamespace(), SimpleNamespace()
    assert may_start(started)
    assert ["waiting"] == give_back([("started", started), ("waiting", waiting)])
    assert not may_start(waiting)


def test_what_a_process_of_the_pool_has_is_kept_though_nobody_has_heard_of_its_start():
    result = ApplyResult({}, None)
    request = type("Request", (), {})()
    request._apply_result = ref(result)
    message = SimpleNamespace(request=ref(request))
    result._write_to = "a process"
    assert [] == give_back([("tag", message)])
    assert may_start(message)
    result._write_to = None
    message.started = False
    assert ["tag"] == give_back([("tag", message)])


def test_the_pool_does_not_forget_a_task_that_a_living_process_has():
    # Celery empties the pool of what no process has accepted when the connection is lost.
    released, pool = [], {}
    result = ApplyResult(pool, None)
    request = type("Request", (), {})()
    request._apply_result = ref(result)
    words, told = [Word.RELEASED], []

    def release(tags, *, reason, killed):
        released.append((tags, reason, killed))
        return words

    request.on_discarded = lambda: told.append("its caller")
    holder = SimpleNamespace(release=release)
    message = SimpleNamespace(request=ref(request), channel=SimpleNamespace(holder=holder))
    process = SimpleNamespace(_is_alive=lambda: True)
    result._write_to = process
    assert [] == give_back([("tag", message)])
    result.discard()
    assert [result] == list(pool.values())
    assert [] == released
    process._is_alive = lambda: False
    result.discard()
    assert [] == list(pool.values())
    assert [(["tag"], "worker process lost", True)] == released
    assert not may_start(message)
    assert [] == told


def test_a_task_whose_process_died_once_too_often_keeps_no_caller_waiting():
    told = []
    result = ApplyResult({}, None)
    request = type("Request", (), {"on_discarded": lambda self: told.append("its caller")})()
    request._apply_result = ref(result)
    holder = SimpleNamespace(release=lambda tags, *, reason, killed: [Word.DISCARDED])
    message = SimpleNamespace(request=ref(request), channel=SimpleNamespace(holder=holder))
    result._write_to = SimpleNamespace(_is_alive=lambda: False)
    assert [] == give_back([("tag", message)])
    result.discard()
    assert ["its caller"] == told


def test_a_request_that_is_gone_or_was_never_made_has_no_process():
    gone = SimpleNamespace(request=lambda: None)
    assert ["gone", "bare"] == give_back([("gone", gone), ("bare", SimpleNamespace())])
