"""An outage from end to end: a real worker, a real downstream that goes away and comes back, no hand."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.fleet.observing import add_observer_task
from joelclaw_tasks.notify.notifier import Notifier
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.embedded import fleet
from tests.notify.conftest import telegram
from tests.notify.servers import BotServer
from tests.observer import downstream


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    events = tmp_path / "registry" / "events"
    events.mkdir(parents=True)
    event = {
        "name": "parcel", "description": "One to deliver.", "priority": "P2",
        "handlers": [
            {
                "name": "parcel.deliver", "type": "task", "queue": "default",
                "target": "tests.observer.downstream:deliver",
                "retries": {"max": 50, "base_s": 2, "cap_s": 60},
            }
        ],
    }  # fmt: skip
    (events / "parcel.json").write_text(json.dumps(event))
    (tmp_path / "registry" / "resources.json").write_text("{}")
    return Registry.load(tmp_path / "registry")


def listening(port: int = 0) -> socket.socket:
    server = socket.create_server(("127.0.0.1", port), backlog=200)
    downstream.ADDRESS[:] = [server.getsockname()[:2]]
    return server


def test_thirty_events_survive_an_outage_without_a_hand_and_with_two_messages(
    registry: Registry, tmp_path: Path
) -> None:
    server = listening()
    _, port = server.getsockname()[:2]
    server.close()  # it is away
    with BotServer("42").running() as bot, fleet(registry, data_dir=tmp_path) as run:
        settings = Settings(
            redis_url=run.url, observer_mode="enforce", observer_auto_families="parcel", home=tmp_path,
            **telegram(bot),
        )  # fmt: skip
        add_observer_task(run.app, lambda: run.queue, settings, registry)
        beat = Notifier.of(settings, run.store)

        def a_pass() -> dict[str, Any]:
            run.app.tasks["joelclaw.observe"].apply(throw=True)
            beat.run_due()
            run.advance(60)
            return {pause["gate"]: pause for pause in run.store.snapshot()["pauses"]}

        for number in range(30):
            run.emit("parcel", {"number": number})
        paused = a_pass() or a_pass()

        assert ["pause:family/parcel"] == list(paused)
        assert "observer" == paused["pause:family/parcel"]["actor"]
        assert paused["pause:family/parcel"]["expires_at"] > run.clock.now_ms()
        (told,) = bot.texts
        assert told.startswith("⚠️ warning\nparcel is held back: ")
        assert "ConnectionRefusedError" in told
        assert "Nothing of it is lost" in told
        assert re.search(r"Nothing more of it starts until \d\d:\d\d UTC, or sooner, when one job", told)
        assert ["Resume now", "Mute 4 h"] == [each["text"] for each in bot.messages[0]["keyboard"]]

        for _ in range(3):
            assert ["pause:family/parcel"] == list(a_pass())
        assert 1 == len(bot.texts)  # what goes on is not told again
        server = listening(port)  # it is back
        for _ in range(12):
            if not a_pass() and not run.store.snapshot()["total"]:
                break

        assert (0, []) == (run.store.snapshot()["total"], run.store.snapshot()["pauses"])
        assert ["parcel goes again: a try went well."] == bot.texts[1:]
        run.advance(86_400)
        beat.run_due()
        assert 2 == len(bot.texts)
        outcomes = [one.outcome for one in run.runs("parcel.deliver")]
        assert (30, 0) == (outcomes.count("completed"), outcomes.count("discarded"))
        reasons = {
            entry.text("reason").partition(":")[0] for entry in run.store.history.read(verbs=["retry"])
        }
        assert {"ConnectionRefusedError"} == reasons  # the stream says why each try is tried again
        acts = [(act["verb"], act["actor"]) for act in run.store.acts()]
        assert {"observer"} == {actor for _, actor in acts}
        assert ["drain", "resume"] == [verb for verb, _ in acts][-2:]
    server.close()
