"""A queue in which things fail, on a real Redis, and a desk that asks the local Messages API by the SDK."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.masking import named_secrets
from joelclaw_tasks.core.spending import AccountDay, Spending
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.diagnosis.collect import Collector
from joelclaw_tasks.intelligence.diagnosis.desk import Desk
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Exhibit, Kind, Subject
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.snapshot import HealthNow
from joelclaw_tasks.notify.notification import Button
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.observer.conftest import World
from tests.observer.conftest import settings as settings  # noqa: PLC0414  # as a fixture
from tests.observer.conftest import world as world  # noqa: PLC0414  # as a fixture

HOUR_MS = 3_600_000
KEY = "sk-" + "ant-test-0123456789abcdefghijklmnopqrstuvwxyz"
REFUSED = "ConnectionRefusedError: [Errno 111] smtp.example.org refused the connection"


def candidate(**changes: Any) -> dict[str, Any]:
    fields = {
        "cause": "downstream_outage", "component": "smtp.example.org", "onset_at": None, "confidence": 0.8,
        "evidence": ["E1"], "because": "Every run ends in a refused connection.",
    }  # fmt: skip
    return fields | changes


def said(**changes: Any) -> dict[str, Any]:
    """What a model answers."""
    fields = {
        "summary": "Mail fails because the mail server is away.", "candidates": [candidate()],
        "tried": [{"what": "The jobs were retried; each failed again.", "evidence": ["E1"]}],
        "proposed_fix": "Start the mail server.", "proposed_diff": None,
        "would_confirm": "Connect to port 25.", "abstains_because": None,
    }  # fmt: skip
    return fields | changes


def evidence_of(*exhibits: tuple[Kind, str], **fields: Any) -> Evidence:
    """Evidence that nobody had to collect."""
    made = tuple(
        Exhibit(id=f"E{number}", kind=kind, at=1_700_000_000_000, source="test", text=text)
        for number, (kind, text) in enumerate(exhibits, 1)
    )
    subject = Subject(kind="family", name="mail", family="mail")
    facts = {"taken_at": 1_700_000_100_000, "since_at": 1_699_990_000_000, "failed": 9, "completed": 3}
    return Evidence(**{"subject": subject, "exhibits": made, **facts, **fields})


def raised(error: Exception) -> str:
    """The traceback of an error, as a worker has it."""
    try:
        raise error
    except Exception:  # noqa: BLE001
        return traceback.format_exc()


class Clinic:
    """A world in which jobs fail, and the desk that looks at them."""

    def __init__(self, world: World, client: ModelClient, checkout: Path | None = None) -> None:
        self.world = world
        self.store = world.store
        self.told: list[tuple[str, str, str]] = []
        self.buttons: list[tuple[str, str]] = []
        self._emitter = Emitter(world.settings, world.registry, world.store)
        self.desk = self.desk_of(client, checkout)

    def desk_of(self, client: ModelClient, checkout: Path | None = None) -> Desk:
        collector = Collector(
            self.store, self.world.registry, registry_dir=self.world.settings.registry_dir,
            checkout=checkout, health=lambda: (HealthNow(name="redis", status="healthy", detail="fine"),),
        )  # fmt: skip
        return Desk(self.store, self.world.registry, collector, lambda: client, self._tell)

    def _tell(self, text: str, *, cause: str, severity: str, change: str, buttons: Sequence[Button]) -> None:
        assert change == "opened"  # so that a task list takes it
        self.buttons = [(button.verb, button.target) for button in buttons]
        self.told.append((text, cause, severity))

    def emit(self, family: str, data: dict[str, Any]) -> str:
        return self._emitter.emit(family, data).jobs[0].job_id

    def fail(self, family: str, count: int = 1, *, error: str = REFUSED, data: Any = None) -> list[str]:
        """Jobs that fail for good, as a worker sees it; answers their ids."""
        kind, _, text = error.partition(": ")
        given = {"to": "anna"} if data is None else data
        ids = []
        for _ in range(count):
            ids.append(self.emit(family, given))
            [job] = self.store.claim(["q"], 1, "w").jobs
            self.world.wait(1)
            found = raised(type(kind, (Exception,), {})(text))
            failure = Failure.of(kind, text, traceback=found, secrets=named_secrets(given))
            self.store.discard(job.tag, failure)
        return ids

    def retry(self, family: str, count: int = 1, *, error: str = REFUSED, data: Any = None) -> None:
        """Runs that fail and are to be retried, much later."""
        for _ in range(count):
            self.emit(family, {"to": "anna"} if data is None else data)
            [claimed] = self.store.claim(["q"], 1, "w").jobs
            self.world.wait(1)
            job_id = claimed.tag.partition("#")[0]
            successor = Job(
                id=job_id, queue="q", family=family, handler=f"{family}.do", lane=f"q|{family}.do|",
                payload=claimed.payload, lease_tag=claimed.tag, retries=1,
                due_ms=self.store.now_ms() + 1_000 * HOUR_MS,
            )  # fmt: skip
            self.store.retry(successor, reason=error)
            self.store.complete([claimed.tag])

    def go_well(self, family: str, count: int = 1) -> None:
        for _ in range(count):
            self.emit(family, {"to": "anna"})
            self.world.work(1)


def opus_today(spending: Spending) -> AccountDay:
    [accounts] = spending.days(1).values()
    return accounts.get("opus", AccountDay())


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def spending(world: World) -> Spending:
    return Spending(world.store)


@pytest.fixture
def client_of(spending: Spending, api: MessagesApi) -> Iterator[Callable[..., ModelClient]]:
    """Makes a client of the real tiers; changes are for every tier."""
    made: list[ModelClient] = []

    def make(**changes: Any) -> ModelClient:

        tiers = {
            name: replace(tier, **changes)
            for name, tier in Registry.load(Settings().registry_dir).tiers.items()
        }
        made.append(ModelClient(tiers, spending, Credentials(KEY), base_url=api.url))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def models(client_of: Callable[..., ModelClient]) -> ModelClient:
    return client_of()


@pytest.fixture
def clinic(world: World, models: ModelClient) -> Clinic:
    return Clinic(world, models)
