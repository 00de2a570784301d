"""What single checks find, of servers that are well, ill or hostile."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.check_process import look_in_time
from joelclaw_tasks.routines.finding import Finding
from joelclaw_tasks.routines.pulse import Off, asked_of
from joelclaw_tasks.routines.run_check import run_check
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.server import free_port
from tests.health.servers import Flood, answers, drips_headers, never_answers, says, served
from tests.notify.servers import BOT_TOKEN, BotServer

ROOT = Path(__file__).parents[2]
SHIPPED = Registry.load(ROOT / "registry")
SECRET = "hunter2-of-somebody"


def ask(kind: str, **asked: Any) -> Finding:
    return look_in_time({"kind": kind, "timeout_s": 2, "limit_s": 7, "every_ms": 60_000, **asked})


def found(kind: str, **asked: Any) -> tuple[str, str]:
    finding = ask(kind, **asked)
    assert not finding.is_broken, finding
    return finding.status, finding.detail


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answers("200 OK"), ("healthy", "answers 200")),
        (answers("204 No Content"), ("healthy", "answers 204")),
        (answers("503 Service Unavailable"), ("down", "answers 503")),
        (answers("404 Not Found"), ("down", "answers 404")),
        (answers("429 Too Many Requests"), ("degraded", "answers 429")),
        (
            answers("302 Found", Location="http://127.0.0.1:1/secret"),
            ("down", "answers 302, a redirect, which is not followed"),
        ),
        (says(b"\x00\xff not http at all\r\n\r\n"), ("down", "cannot be reached: RemoteProtocolError")),
        (says(b""), ("down", "cannot be reached: RemoteProtocolError")),
        (
            says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000),
            ("down", "cannot be reached: RemoteProtocolError"),
        ),
    ],
)  # fmt: skip
def test_an_endpoint_is_well_when_it_answers_2xx(answer: Any, expected: tuple[str, str]) -> None:
    with served(answer) as url:
        assert expected == found("http", url=url + "/health")


@pytest.mark.parametrize("answer", [never_answers, drips_headers])
def test_a_server_that_is_slow_for_ever_is_down_in_time(answer: Any) -> None:
    with served(answer) as url:
        began = time.monotonic()
        said = found("http", url=url, timeout_s=0.3)

        assert ("down", "does not answer within 0.3 s") == said
        assert time.monotonic() - began < 2


def test_of_ten_megabytes_only_the_beginning_is_read(tmp_path: Path) -> None:
    flood = Flood()
    with served(flood) as url:
        assert ("healthy", "answers 200") == found("http", url=url)
        assert ("down", "answers 200, but not what it should") == found("http", url=url, contains="ok")

    # What the kernel holds between the two is a few megabytes at most.
    assert flood.sent < 9_000_000


def test_an_answer_must_hold_the_text_and_come_in_time() -> None:
    with served(answers("200 OK", '{"ok":true}')) as url:
        assert ("healthy", "answers 200") == found("http", url=url, contains='"ok":true')
        ill = found("http", url=url, contains='"ok":false')
        finding = ask("http", url=url, slow_ms=0.001)

    assert ("down", "answers 200, but not what it should") == ill
    assert "degraded" == finding.status
    assert finding.detail.startswith("answers 200, but only after ")


def test_nobody_at_an_address_is_down_and_the_address_with_its_password_is_not_quoted() -> None:
    port = free_port()
    said = found("http", url=f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}")

    assert ("down", "cannot be reached: ConnectError") == said
    assert ("down", "cannot be reached: UnsupportedProtocol") == found("http", url=f"ftp://{SECRET}")
    assert ("down", "takes no connection: ConnectionRefusedError") == found(
        "tcp", url=f"tcp://127.0.0.1:{port}"
    )


def test_a_port_is_well_when_it_takes_a_connection() -> None:
    with served(never_answers) as url:
        assert ("healthy", "takes connections") == found("tcp", url=url.replace("http", "tcp"))


def test_the_bot_is_asked_who_it_is() -> None:
    with BotServer("42").running() as bot:
        assert ("healthy", "knows the bot") == found("telegram", url=bot.url, token=BOT_TOKEN)
        said = found("telegram", url=bot.url, token="99:another")
        assert ["/bot12345:test-token-of-a-bot-on-loopback/getMe", "/bot99:another/getMe"] == [
            asked.path for asked in bot.asked
        ]

    assert ("down", "refuses the token (404)") == said
    assert [] == bot.messages


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("200 OK", ("healthy", "takes the key")),
        ("401 Unauthorized", ("down", "refuses the key (401)")),
        ("429 Too Many Requests", ("degraded", "is overloaded or wants fewer requests (429)")),
        ("529 Overloaded", ("degraded", "is overloaded or wants fewer requests (529)")),
        ("500 Internal Server Error", ("down", "answers 500")),
    ],
)
def test_the_models_are_asked_for_a_name_and_nothing_that_costs(
    status: str, expected: tuple[str, str]
) -> None:
    with served(answers(status, "{}")) as url:
        assert expected == found("anthropic", url=url, token="sk-test")


def test_redis_is_degraded_when_it_may_lose_work_and_down_when_it_is_away(redis_url, client) -> None:
    asked = {"redis_url": redis_url, "key_prefix": "{jc}:"}
    assert ("degraded", "keeps nothing over a restart (appendonly is off)") == found("redis", **asked)
    client.config_set("appendonly", "yes")
    try:
        assert "healthy" == ask("redis", **asked).status
        client.config_set("maxmemory-policy", "allkeys-lru")
        said = found("redis", **asked)
        client.config_set("maxmemory-policy", "noeviction")
    finally:
        client.config_set("appendonly", "no")

    assert ("degraded", "may evict accepted work (maxmemory-policy allkeys-lru)") == said
    away = {**asked, "redis_url": f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"}
    assert ("down", "does not answer: ConnectionError") == found("redis", **away)
    assert ("unknown", "cannot be told: Redis does not answer (ConnectionError)") == found(
        "workers", queues=["io"], **away
    )


def test_a_disk_is_as_well_as_the_fullest_of_its_places(tmp_path: Path, monkeypatch) -> None:
    assert ask("disk", paths=[str(tmp_path / "not" / "there" / "yet")]).detail.endswith(f"under {tmp_path}")

    free = {str(tmp_path): 50 << 20, "/": 500 << 20}
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": free[str(place)]}))

    assert ("degraded", "has 0.5 GiB free under /") == found("disk", paths=["/"])
    assert ("down", f"has 0.0 GiB free under {tmp_path}") == found("disk", paths=["/", str(tmp_path)])


@pytest.mark.parametrize(
    ("sent_ms", "started_ms", "expected"),
    [
        (200, 900, ("healthy", "sends 0.2 s late, and a worker takes it 0.7 s later")),
        (200, 15_200, ("degraded", "sends 0.2 s late, and a worker takes it 15.0 s later")),
        (31_000, 31_500, ("down", "sends 31.0 s late, and a worker takes it 0.5 s later")),
    ],
)
def test_beat_is_late_by_what_its_own_look_is_late(redis_url, client, sent_ms, started_ms, expected) -> None:
    due_at = 29_538_720 * 60_000
    client.hset(Keys("{jc}:").job("tick"), "admitted_at", due_at + sent_ms)

    said = found("beat", redis_url=redis_url, key_prefix="{jc}:", look="tick", started_at=due_at + started_ms)

    assert expected == said


def test_workers_are_missing_for_the_queues_that_no_living_one_serves(redis_url, client) -> None:
    asked = {"redis_url": redis_url, "key_prefix": "{jc}:", "queues": ["default", "io"]}
    store = Store.connect(Settings(redis_url=redis_url))
    assert ("down", "are missing for default, io: what is admitted there waits") == found("workers", **asked)

    client.hset("{jc}:holders", "w1", json.dumps({"host": "here", "pid": 1, "queues": ["io"]}))
    client.zadd("{jc}:timers", {"lease|w1": store.now_ms() + 15_000})
    store.client.close()

    assert ("down", "are missing for default: what is admitted there waits") == found("workers", **asked)


def test_what_a_function_says_is_the_finding_and_its_secrets_are_masked(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_checks.py").write_text(
        "def well(): return None\n"
        "def said(): return 'is mounted'\n"
        "def ill(): return 'degraded', 'is read-only'\n"
        f"def leaks(): return 'down', 'refuses the password=%s' % '{SECRET}'\n"
        f"def raises(): raise ValueError('no password={SECRET}')\n"
        "def odd(): return 42\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    assert ("healthy", "is healthy") == found("python", target="own_checks:well")
    assert ("healthy", "is mounted") == found("python", target="own_checks:said")
    assert ("degraded", "is read-only") == found("python", target="own_checks:ill")
    assert ("down", "refuses the password=***") == found("python", target="own_checks:leaks")
    for name in ("raises", "odd", "missing"):
        finding = ask("python", target=f"own_checks:{name}")
        assert ("unknown", True) == (finding.status, finding.is_broken)
        assert SECRET not in finding.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os, signal\ndef look(): os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("import os\ndef look(): os._exit(3)", "it ended with exit code 3 and said nothing"),
        ("import time\ndef look(): time.sleep(600)", "it did not end within 1.5 s and was killed"),
        ("def look(): print('x' * 1_000_000); raise RuntimeError('no')", "RuntimeError: no"),
        ("import sys\ndef look(): sys.exit(0)", "it ended with exit code 0 and said nothing"),
    ],
)
def test_whatever_a_check_does_who_waits_for_it_lives_on(tmp_path, monkeypatch, body: str, said: str) -> None:
    (tmp_path / "wild_check.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{tmp_path}")

    finding = run_check({"kind": "python", "target": "wild_check:look", "timeout_s": 1, "limit_s": 1.5})

    assert Finding("unknown", f"cannot be checked: {said}", is_broken=True) == finding


def test_what_is_not_configured_is_off_and_says_why(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0", ingress_port=0)

    def off(name: str, env: dict[str, str] | None = None, settings: Settings = settings) -> str:
        with pytest.raises(Off) as why:
            asked_of(SHIPPED.checks[name], settings, SHIPPED, env or {})
        return str(why.value)

    assert "TYPESENSE_URL is not set" == off("typesense")
    assert "TELEGRAM_BOT_TOKEN is not set" == off("telegram")
    assert "ANTHROPIC_API_KEY is not set" == off("anthropic")
    assert "nothing says where the ingress is; set INGRESS_URL" == off("ingress")
    assert "TYPESENSE_URL must be http(s)://host[:port][/path]" == off("typesense", {"TYPESENSE_URL": SECRET})
    without = Settings(home=tmp_path, anthropic_api_key="sk", use_models=False)
    assert "JOELCLAW_USE_MODELS says so" == off("anthropic", settings=without)


def test_an_address_comes_from_the_environment_and_that_of_the_ingress_from_the_running_fleet(
    tmp_path,
) -> None:
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0", telegram_bot_token="1:x")

    def url(name: str, **env: str) -> str:
        return asked_of(SHIPPED.checks[name], settings, SHIPPED, env)["url"]

    assert "http://ts:8108/health" == url("typesense", TYPESENSE_URL="http://ts:8108/")
    assert "https://u:p@ts/health" == url("typesense", TYPESENSE_URL="https://u:p@ts")
    assert "http://door:8080/healthz" == url("ingress", INGRESS_URL="http://door:8080")
    (tmp_path / "fleet.json").write_text(json.dumps({"ingress_url": "http://127.0.0.1:7777"}))
    assert "http://127.0.0.1:7777/healthz" == url("ingress")
    assert "https://api.telegram.org" == url("telegram")


def test_a_redis_that_hangs_is_down_in_time() -> None:
    with served(never_answers) as url:
        began = time.monotonic()
        status, detail = found(
            "redis", redis_url=url.replace("http", "redis"), key_prefix="{jc}:", timeout_s=0.5
        )

    assert "down" == status
    assert "does not answer" in detail
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        ("200 OK", '{"rows": []}', ("healthy", "0 invocations wait, 0 are retried")),
        (
            "200 OK",
            '{"rows": [{"status": "pending", "many": 3}, {"status": "ready", "many": 1}]}',
            ("healthy", "4 invocations wait, 0 are retried"),
        ),
        (
            "200 OK",
            '{"rows": [{"status": "pending", "many": 3}, {"status": "backing-off", "many": 2}]}',
            ("degraded", "3 invocations wait, 2 are retried"),
        ),
        ("200 OK", "<html>", ("down", "answers 200, but not how much waits")),
        ("500 Internal Server Error", '{"message": "no"}', ("down", "answers 500, but not how much waits")),
    ],
)
def test_a_backlog_in_restate_is_degraded(status: str, body: str, expected: tuple[str, str]) -> None:
    with served(answers(status, body)) as url:
        assert expected == found("restate", url=url, most_waiting=4)
