"""The fleet tells: its health, once when it changes; what was held back, by a task of beat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from joelclaw_tasks.fleet.app import make_app
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.notify.conftest import telegram
from tests.notify.servers import BOT_TOKEN, BotServer

ROOT = Path(__file__).parents[2]


def test_an_unhealthy_redis_is_told_once_and_so_is_that_it_is_well_again(redis_url, client, tmp_path):
    with BotServer("42").running() as bot:
        app = make_app(Settings(redis_url=redis_url, home=tmp_path, **telegram(bot)))

        def pulses() -> list[str]:
            found = [app.tasks["health.redis"].apply(throw=True).get()["status"] for _ in range(3)]
            app.tasks["joelclaw.notify"].apply(throw=True)
            return found

        assert ["degraded"] * 3 == pulses()
        client.config_set("appendonly", "yes")
        try:
            assert ["healthy"] * 3 == pulses()
        finally:
            client.config_set("appendonly", "no")
        app.close()

    assert [
        "⚠️ warning\nRedis keeps nothing over a restart (appendonly is off).", "Redis is well again.",
    ] == bot.texts  # fmt: skip


def test_a_healthy_redis_is_no_news(redis_url, client, tmp_path, capsys):
    client.config_set("appendonly", "yes")
    try:
        app = make_app(Settings(redis_url=redis_url, home=tmp_path))
        for _ in range(3):
            app.tasks["health.redis"].apply(throw=True)
        answer = app.tasks["joelclaw.notify"].apply(throw=True).get()
        app.close()
    finally:
        client.config_set("appendonly", "no")

    assert {"digest": 0, "waiting": {"console": 0}} == answer
    assert "" == capsys.readouterr().out
    assert not client.exists("{jc}:notify_log")


@pytest.mark.parametrize("with_token", [True, False])
def test_a_worker_tells_and_one_without_its_token_says_so_and_does_not_start(redis_url, tmp_path, with_token):
    with BotServer("42").running() as bot:
        env = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        env |= {
            "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT), "JOELCLAW_HOME": str(tmp_path),
            "JOELCLAW_NOTIFY": "telegram", "TELEGRAM_CHAT_IDS": "42", "TELEGRAM_BASE_URL": bot.url,
        }  # fmt: skip
        if with_token:
            env["TELEGRAM_BOT_TOKEN"] = BOT_TOKEN
        command = [
            "-m",
            "celery",
            "-A",
            "joelclaw_tasks",
            "worker",
            "--pool",
            "prefork",
            "-c",
            "1",
            "-l",
            "info",
        ]
        log = tmp_path / "worker.log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, *command], env=env, cwd=ROOT, stdout=out, stderr=out)
        try:
            if with_token:
                app = make_app(Settings(redis_url=redis_url, home=tmp_path), Registry.load(ROOT / "registry"))
                app.conf.update(broker_url=redis_url, result_backend=redis_url)
                for _ in range(2):  # one bad look is no news
                    app.send_task("health.redis", queue="default")
                wait_until(lambda: bot.texts or process.poll() is not None, "the worker tells", 40)
                app.close()
            else:
                process.wait(40)
        finally:
            process.terminate()
            process.wait(30)
    said = log.read_text()

    assert BOT_TOKEN not in said
    if with_token:
        assert ["⚠️ warning\nRedis keeps nothing over a restart (appendonly is off)."] == bot.texts
        assert "warning: Redis keeps nothing over a restart" in said
    else:
        assert process.returncode != 0
        assert "JOELCLAW_NOTIFY names telegram: set TELEGRAM_BOT_TOKEN" in said
        assert "Traceback" not in said
