"""Day: what the models of an ordinary day cost, by the ledger: triage, digests, one outage, one diagnosis.

The prompts are those that a fleet renders, tokens are counted by the local Messages API (one for four bytes),
and prices and budgets are those of the registry. The hours pass in no time.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.evaluation.bench import Bench
from joelclaw_tasks.evaluation.digesting import write
from joelclaw_tasks.evaluation.dispatcher import judge
from joelclaw_tasks.evaluation.doctor import examine
from joelclaw_tasks.evaluation.fault import FaultKind
from joelclaw_tasks.evaluation.incident import make_incidents
from joelclaw_tasks.evaluation.play import STARTS_AT
from joelclaw_tasks.evaluation.scenario import make_scenario
from joelclaw_tasks.evaluation.scripted import operate
from joelclaw_tasks.evaluation.triaging import labelled_events
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.costs import cost_report
from joelclaw_tasks.intelligence.diagnosis.ask import diagnose
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.model_operator import ModelOperator
from joelclaw_tasks.intelligence.triage import Triage
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.routines.digest.digests import CLOSES_AFTER_MS, Digests, NotYet
from joelclaw_tasks.routines.digest.window import HOUR_MS, Window
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.testing.clock import Clock

EVENTS = 500
_DAY_MS = 86_400_000
#: The clock stands still meanwhile, so this is how long the model may take.
_HOLD_MS = 60_000
_BATCH_MS = 600_000
#: So many of a hundred arrivals are a crowd, of up to so many events.
_CROWDS_PERCENT, _CROWD_MOST = 25, 9
_TEXT_MOST = 1_200


def cost_of_day(bench: Bench, seed: int) -> dict[str, Any]:
    """US dollars, in all and by tier, and what cache, batches and scoring together have saved."""
    crowds = _arrivals(seed)
    with closing(_Office(bench, 3)) as together:
        together.triage(crowds)
        calls = together.api.count
        triage_usd = together.report()["cost_usd"]
        together.watch_an_outage(seed)
        observer_usd = together.report()["cost_usd"] - triage_usd
        together.diagnose_one(seed)
        report = together.report()
    with closing(_Office(bench, 4)) as alone:
        alone.triage([(at_ms, [event]) for at_ms, events in crowds for event in events])
        alone_usd = alone.report()["cost_usd"]
    with closing(_Office(bench, 5)) as later:
        digests = later.digest(crowds)
        digest = later.report(days=2)  # the digest of the last hour is written tomorrow
    return {
        "digests": digests,
        "events": sum(len(events) for _, events in crowds),
        "triage_calls": calls,
        "cost_usd": round(report["cost_usd"] + digest["cost_usd"], 4),
        "triage_usd": round(triage_usd, 4),
        "observer_usd": round(observer_usd, 4),
        "diagnosis_usd": round(report["cost_usd"] - triage_usd - observer_usd, 4),
        "digest_usd": round(digest["cost_usd"], 4),
        "saved_by_cache_usd": round(report["saved_by_cache_usd"] + digest["saved_by_cache_usd"], 4),
        "saved_by_batch_usd": round(report["saved_by_batch_usd"] + digest["saved_by_batch_usd"], 4),
        "saved_by_scoring_together_usd": round(alone_usd - triage_usd, 4),
    }


def _arrivals(seed: int) -> list[tuple[int, list[NewEvent]]]:
    """When events come in, alone and in crowds, more of them by day; they are about as long as mail is."""
    rng = random.Random(f"day/{seed}")  # noqa: S311  # events, not secrets
    events = labelled_events()
    found: list[tuple[int, list[NewEvent]]] = []
    left = EVENTS
    while left:
        many = rng.randrange(2, _CROWD_MOST) if rng.randrange(100) < _CROWDS_PERCENT else 1
        crowd = []
        for _ in range(min(many, left)):
            each = rng.choice(events)
            text = "".join(rng.choice("aeinorst ") for _ in range(rng.randrange(50, _TEXT_MOST)))
            crowd.append(NewEvent(each["family"], {**each["data"], "text": text}, id=f"day-{left}"))
            left -= 1
        # Four of five by day, in UTC as good as anywhere.
        at_ms = rng.randrange(_DAY_MS // 3, _DAY_MS) if rng.random() < 0.8 else rng.randrange(_DAY_MS // 3)
        found.append((at_ms, crowd))
    return sorted(found, key=lambda each: each[0])


class _Office:
    """A queue, a ledger and a Messages API on one clock."""

    def __init__(self, bench: Bench, database: int) -> None:
        own = bench.stage.settings
        base, _, _ = str(own.redis_url).rpartition("/")
        settings = replace(
            own, redis_url=f"{base}/{database}", triage_mode="enforce", triage_hold_ms=_HOLD_MS
        )
        self._bench = bench
        self._clock = Clock(STARTS_AT.replace(hour=0))
        self._start_ms = self._clock.now_ms()
        self._opened = ExitStack()
        self.api = self._opened.enter_context(MessagesApi(now_s=lambda: self._clock.now_ms() / 1_000))
        self._store = Store.connect(settings, now_ms=self._clock.now_ms)
        self._opened.callback(self._store.client.close)
        self._tiers = Registry.load(Settings().registry_dir).tiers
        self._spending = Spending(self._store)
        self._client = ModelClient(self._tiers, self._spending, Credentials("local"), base_url=self.api.url)
        self._opened.callback(self._client.close)
        self._emitter = Emitter(settings, bench.stage.registry, self._store, now_ms=self._clock.now_ms)
        self._triage = Triage(
            self._client, settings.slack_ms, _HOLD_MS, clock=lambda: self._clock.now_ms() / 1_000
        )

    def triage(self, crowds: list[tuple[int, list[NewEvent]]]) -> None:
        """Score each crowd in one call, as those that come within a tenth of a second are."""
        self.api.rule = judge
        for at_ms, events in crowds:
            self._clock.move_to(self._start_ms + at_ms)
            self._emitter.emit_many(events)
            self._triage.run(self._store)

    def watch_an_outage(self, seed: int) -> None:
        """An hour in which the downstream of the busy family is away; only then does the observer ask."""
        self.api.rule = operate
        world = make_scenario(FaultKind.OUTAGE, seed)
        away = {window.family for window in world.faults.windows}
        others = [each for each in world.arrivals if each.family not in away]
        quiet = set(others[:: max(1, len(others) * 12 // EVENTS)])
        arrivals = tuple(each for each in world.arrivals if each.family in away or each in quiet)
        self._bench.stage.play(replace(world, arrivals=arrivals), operator=ModelOperator(self._client))

    def diagnose_one(self, seed: int) -> None:
        """One failure that is new."""
        self.api.rule = examine
        diagnose(make_incidents(seed, 1)[0].evidence, self._client)

    def digest(self, crowds: list[tuple[int, list[NewEvent]]]) -> int:
        """Close each hour by a batch that takes ten minutes; answers how many pages there are."""
        self.api.rule = write
        self.api.batches.takes_s = _BATCH_MS / 1_000
        with TemporaryDirectory() as folder:
            digests = Digests(self._store, Path(folder), lambda: self._client)
            for hour in range(24):
                window = Window(self._start_ms + hour * HOUR_MS, self._start_ms + (hour + 1) * HOUR_MS)
                for at_ms, events in crowds:
                    if at_ms // HOUR_MS == hour:
                        self._clock.move_to(self._start_ms + at_ms)
                        self._emitter.emit_many(events)
                self._clock.move_to(window.end_at + CLOSES_AFTER_MS)
                digests.close(window, "batch")
                self._clock.move_to(window.end_at + CLOSES_AFTER_MS + _BATCH_MS)
                found = digests.close(window, "batch")
                if isinstance(found, NotYet) or found.fallback:
                    raise RuntimeError(
                        f"{window.name} was not written: {found}"
                    )  # the figures would be wrong
            return sum(record.state == "made" for record in digests.records.all().values())

    def report(self, days: int = 1) -> dict[str, Any]:
        """What `joelclaw models cost` says of the day."""
        return cost_report(self._spending, self._tiers, days)

    def close(self) -> None:
        """End everything, the last first."""
        self._opened.close()
