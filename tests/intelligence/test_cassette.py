"""What an API answered can be recorded without secrets, and played again where no API is."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Answer, Fallback
from joelclaw_tasks.intelligence.later import Ended, Pending
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.cassette import Player, Recorder
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.prompt import Rendered
from joelclaw_tasks.intelligence.reason import Reason
from tests.conftest import free_port
from tests.intelligence.conftest import FIXED, KEY, a_question, a_score

WITHOUT_PARTS = """{"version": 1, "entries": [
    {"parts": {}, "words": "", "status": 200, "headers": {}, "body": ""}
]}"""
Make = Callable[..., ModelClient]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mail.json"


@contextmanager
def recording(file: Path, api: MessagesApi, model_client: Make) -> Iterator[ModelClient]:
    with MessagesApi(tape=Recorder(file, api.url)) as recorder:
        yield model_client(base_url=recorder.url)


@contextmanager
def playing(file: Path, model_client: Make) -> Iterator[ModelClient]:
    with MessagesApi(tape=Player(file)) as player:
        yield model_client(base_url=player.url)


def decided(client: ModelClient, text: str = "<event>{}</event>") -> Answer[Any] | Fallback:
    return client.decide(a_question(prompt=Rendered("triage", 3, "5e1f" * 16, FIXED, text)), budget_ms=5_000)


def test_what_was_recorded_is_answered_again_without_the_api(
    file: Path, api: MessagesApi, model_client: Make
):
    api.script(a_score(score=11), a_score(score=22))
    with recording(file, api, model_client) as client:
        first, second = decided(client, "mail"), decided(client, "call")
    with playing(file, model_client) as client:
        again, before = decided(client, "call"), decided(client, "mail")

    for recorded, played in ((first, before), (second, again)):
        assert isinstance(recorded, Answer)
        assert isinstance(played, Answer)
        assert (recorded.value, recorded.usage) == (played.value, played.usage)
        assert recorded.last.request_id == played.last.request_id
    assert 2 == api.count


def test_the_same_request_is_answered_in_the_order_of_the_recording(
    file: Path, api: MessagesApi, model_client: Make
):
    api.script(Act(fault=Fault.RATE_LIMITED, retry_after_s=3), a_score(score=22))
    with recording(file, api, model_client) as client:
        decided(client)
        client.breaker.succeeded(("haiku", "triage"))
        decided(client)
    with playing(file, model_client) as client:
        refused = decided(client)
        client.breaker.succeeded(("haiku", "triage"))
        later = [decided(client), decided(client)]

    assert isinstance(refused, Fallback)
    assert (Reason.RATE_LIMITED, 3_000) == (refused.reason, refused.retry_after_ms)
    assert [22, 22] == [each.value.score for each in later if isinstance(each, Answer)]


@pytest.mark.parametrize("fault", [Fault.HTML, Fault.HALF_JSON, Fault.SERVER_ERROR, Fault.REFUSAL])
def test_faults_are_recorded_as_they_were(fault: Fault, file: Path, api: MessagesApi, model_client: Make):
    api.script(fault)
    with recording(file, api, model_client) as client:
        recorded = decided(client)
    with playing(file, model_client) as client:
        played = decided(client)

    assert isinstance(recorded, Fallback)
    assert isinstance(played, Fallback)
    assert (recorded.reason, recorded.detail) == (played.reason, played.detail)


def test_no_key_and_no_secret_is_written(file: Path, api: MessagesApi, model_client: Make):
    password = "hunter2" + "hunter2"
    api.script(a_score(reasoning=f"your key is {KEY}"))
    with recording(file, api, model_client) as client:
        decided(client, f"log in with password={password} please")

    written = file.read_text()

    assert KEY not in written
    assert password not in written
    assert "log in with" in written
    assert "sk-" + "ant" not in written
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file] == list(file.parent.iterdir())


def test_a_request_that_was_not_recorded_is_told_the_nearest_one(
    file: Path, api: MessagesApi, model_client: Make
):
    api.rule = lambda _: a_score()
    with recording(file, api, model_client) as client:
        decided(client, "a mail of the bank")
        decided(client, "a call of the school")
    with playing(file, model_client) as client:
        missed = decided(client, "a mail of a friend")

    assert isinstance(missed, Fallback)
    assert Reason.INVALID_REQUEST == missed.reason
    assert "the cassette mail.json has no answer to this request" in missed.detail
    assert "the nearest is entry 1 of 2, with another per_call: " in missed.detail
    assert "a mail of the bank" in missed.detail


def test_another_model_and_another_schema_are_other_requests(
    file: Path, api: MessagesApi, model_client: Make
):
    api.rule = lambda _: a_score()
    with recording(file, api, model_client) as client:
        decided(client)
    with playing(file, model_client) as client:
        missed = client.decide(a_question(tier="sonnet"), budget_ms=5_000)

    assert "with another model" in missed.attempts[0].detail
    assert isinstance(missed, Answer)  # of the tier that it falls back to


def test_a_batch_is_recorded_from_its_beginning_to_its_results(
    file: Path, api: MessagesApi, model_client: Make, spending: Any
):
    api.rule = lambda _: a_score()
    questions = {"summary": a_question()}
    with recording(file, api, model_client) as client:
        client.submit("digest-1", questions)
        recorded = client.look("digest-1", questions)
    spending.store.client.flushdb()
    with playing(file, model_client) as client:
        assert isinstance(client.submit("digest-1", questions), Pending)
        played = client.look("digest-1", questions)

    assert isinstance(recorded, Ended)
    assert recorded == played
    assert api.url not in file.read_text()


def test_an_upstream_that_is_away_is_an_error_and_nothing_is_recorded(file: Path, model_client: Make):
    with MessagesApi(tape=Recorder(file, f"http://127.0.0.1:{free_port()}")) as recorder:
        away = decided(model_client(base_url=recorder.url))

    assert isinstance(away, Fallback)
    assert (Reason.SERVER_ERROR, "status 502: the upstream does not answer: ConnectError") == (
        away.reason,
        away.detail,
    )
    assert [] == json.loads(file.read_text())["entries"]


def test_a_recording_is_never_written_over(file: Path):
    file.write_text("mine")

    with pytest.raises(FileExistsError, match="is there already"):
        Recorder(file, "http://127.0.0.1:1")

    assert "mine" == file.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "no cassette of version 1"),
        ('{"version": 2}', "no cassette of version 1"),
        ('{"version": 1, "entries": [{"status": 200}]}', "entry 1 is no answer"),
        ('{"version": 1, "entries": [7]}', "entry 1 is no answer"),
        ('{"version": 1, "entries": {"a": 1}}', "entry 1 is no answer"),
        (WITHOUT_PARTS, "entry 1 is no answer"),
    ],
)
def test_a_file_that_is_no_cassette_is_refused(text: str, why: str, file: Path):
    file.write_text(text)

    with pytest.raises(ValueError, match=why):
        Player(file)
