"""Questions that can wait are asked once, for half the price, by however many processes and deaths."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.costs import cost_report
from joelclaw_tasks.intelligence.decision import Answer, Fallback, Question
from joelclaw_tasks.intelligence.later import Ended, NotNow, Pending
from joelclaw_tasks.intelligence.local.act import Act, Fault
from joelclaw_tasks.intelligence.local.server import MessagesApi
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, wait_until
from tests.intelligence.conftest import KEY, Score, a_question, a_score, haiku_today, tiers

NAME = "digest-20261128T03"
DAY_S = 86_400
SUBMIT = """
import sys
import redis
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.spending import Spending
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.intelligence.client import ModelClient
from tests.intelligence.conftest import KEY, a_question, tiers

store = Store(redis.Redis.from_url(sys.argv[1]), Keys("{jc}:"))
client = ModelClient(tiers(), Spending(store), Credentials(KEY), base_url=sys.argv[2])
print(client.submit(sys.argv[3], {"summary": a_question()}), flush=True)
"""


class Times:
    """One clock for Redis and the API; goes on by hand."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def api(times: Times, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessagesApi]:
    with MessagesApi(lambda _: a_score(), keys={KEY}, now_s=lambda: times.now_s) as running:
        monkeypatch.setattr(running.batches, "_epoch_s", 0.0)
        yield running


@pytest.fixture
def store(redis_url: str, times: Times) -> Iterator[Store]:
    client = redis.Redis.from_url(redis_url)
    yield Store(client, Keys("{jc}:"), now_ms=times.now_ms)
    client.close()


def questions(*names: str) -> dict[str, Question[Score]]:
    return {name: a_question() for name in names or ("summary",)}


def outcome_of(client: ModelClient, *names: str) -> Answer[Any] | Fallback:
    seen = client.look(NAME, questions(*names))
    assert isinstance(seen, Ended), seen
    return seen.outcomes[names[0] if names else "summary"]


def test_the_answers_come_later_by_name_for_half_the_price(
    api: MessagesApi, client: ModelClient, spending: Spending, times: Times
):
    api.batches.takes_s = 600
    api.script(a_score(), a_score(score=20))

    sent = client.submit(NAME, questions("summary", "title"))
    early = client.look(NAME, questions("summary", "title"))
    times.now_s += 600
    late = client.look(NAME, questions("summary", "title"))

    assert Pending("msgbatch_local_000001", 2) == sent == early
    assert isinstance(late, Ended)
    first, second = late.outcomes["summary"], late.outcomes["title"]
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert (70, 20) == (first.value.score, second.value.score)
    assert 600_000 == first.latency_ms
    prices = client.tiers["haiku"].prices
    assert first.cost_nano_usd == pytest.approx(first.usage.cost_nano_usd(prices) / 2, abs=1)
    haiku = haiku_today(spending)
    assert (first.cost_nano_usd + second.cost_nano_usd, 0) == (haiku.cost_nano_usd, haiku.held_nano_usd)
    assert {"mail/received": haiku.cost_nano_usd} == haiku.shares
    assert (2, 2, 2) == tuple(haiku.counts[each] for each in ("calls", "batch_calls", "answered"))


def test_what_batching_saved_is_in_the_report(client: ModelClient, spending: Spending):
    client.submit(NAME, questions())

    cost = outcome_of(client).cost_nano_usd

    report = cost_report(spending, client.tiers, 1)
    assert cost / 1e9 == report["cost_usd"] > 0
    assert report["saved_by_batch_usd"] == pytest.approx(report["cost_usd"], abs=2e-9)
    assert {} == report["tiers"][0]["fallbacks"]
    assert 0 == report["saved_by_cache_usd"]


def test_one_question_alone_is_not_put_into_a_cache(api: MessagesApi, client: ModelClient):
    client.submit(NAME, questions())
    client.submit("two", questions("a", "b"))
    client.look(NAME, questions())
    client.look("two", questions("a", "b"))

    marked = ["cache_control" in asked.body["system"][0] for asked in api.requests]

    assert [False, True, True] == marked


def test_a_batch_is_sent_and_paid_once_however_often_it_is_asked_for(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    first, second = model_client(), model_client()

    assert first.submit(NAME, questions()) == Pending("msgbatch_local_000001", 1)
    assert second.submit(NAME, questions()) == Pending("msgbatch_local_000001")
    outcomes = [outcome_of(each) for each in (first, second, first)]

    assert 1 == api.batches.count
    assert outcomes[0] == outcomes[1] == outcomes[2]
    haiku = haiku_today(spending)
    assert (outcomes[0].cost_nano_usd, 0) == (haiku.cost_nano_usd, haiku.held_nano_usd)
    assert 1 == haiku.counts["calls"]


def test_of_ten_that_submit_and_look_at_once_one_sends_and_one_pays(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    clients = [model_client() for _ in range(10)]
    start = threading.Barrier(10)

    def work(client: ModelClient) -> None:
        start.wait()
        client.submit(NAME, questions())
        wait_until(lambda: isinstance(client.look(NAME, questions()), Ended), "the answers")

    threads = [threading.Thread(target=work, args=(each,)) for each in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    haiku = haiku_today(spending)
    assert (1, 1, 0) == (api.batches.count, haiku.counts["calls"], haiku.held_nano_usd)


@pytest.mark.parametrize("fault", [Fault.HANG_UP, Fault.HALF_BODY, Fault.HTML, Fault.OTHER_JSON, Fault.EMPTY])
def test_a_batch_whose_id_was_lost_is_found_again_by_its_results(
    fault: Fault, api: MessagesApi, client: ModelClient, spending: Spending, times: Times
):
    api.batches.takes_s = 3_600
    client.submit("another", questions())
    api.batches.script(fault)

    assert Pending(None) == client.submit(NAME, questions())
    assert Pending(None) == client.submit(NAME, questions())  # it may be on its way
    times.now_s += 600
    assert Pending(None) == client.look(NAME, questions())  # it may be the one that runs
    times.now_s += 3_600
    assert Pending("msgbatch_local_000002") == client.look(NAME, questions())
    assert isinstance(outcome_of(client), Answer)

    assert 2 == api.batches.count
    assert 1 == haiku_today(spending).counts["calls"]


def test_a_request_that_never_arrived_is_sent_again_and_held_once(
    api: MessagesApi, client: ModelClient, spending: Spending, times: Times
):
    api.batches.script(Fault.SERVER_ERROR)
    assert Pending(None) == client.submit(NAME, questions())
    held = haiku_today(spending).held_nano_usd
    times.now_s += 600

    assert Pending("msgbatch_local_000001", 1) == client.submit(NAME, questions())

    assert (1, held) == (api.batches.count, haiku_today(spending).held_nano_usd)


@pytest.mark.timeout(60)
def test_what_a_killed_process_sent_is_picked_up_and_not_paid_twice(
    api: MessagesApi, client: ModelClient, spending: Spending, redis_url: str, times: Times
):
    import time

    times.now_s = time.time()  # the other process has the clock of Redis
    api.batches.script(Act(after_s=60))
    other = subprocess.Popen([sys.executable, "-c", SUBMIT, redis_url, api.url, NAME], stdout=subprocess.PIPE)
    wait_until(lambda: api.batches.count == 1, "the batch arrives", timeout_s=30)
    other.send_signal(signal.SIGKILL)
    other.communicate()

    assert Pending(None) == client.submit(NAME, questions())
    times.now_s += 600
    assert Pending("msgbatch_local_000001") == client.submit(NAME, questions())
    assert isinstance(outcome_of(client), Answer)
    assert (1, 1) == (api.batches.count, haiku_today(spending).counts["calls"])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.BAD_REQUEST, Reason.INVALID_REQUEST),
        (Fault.WRONG_KEY, Reason.AUTH),
        (Fault.NOT_FOUND, Reason.INVALID_REQUEST),
        (Fault.TOO_LARGE, Reason.TOO_LARGE),
        (Fault.RATE_LIMITED, Reason.RATE_LIMITED),
        (Fault.OVERLOADED, Reason.OVERLOADED),
    ],
)
def test_a_batch_that_is_refused_costs_nothing_and_can_be_sent_again(
    fault: Fault,
    reason: Reason,
    api: MessagesApi,
    model_client: Callable[..., ModelClient],
    spending: Spending,
):
    api.batches.script(fault)

    refused = model_client().submit(NAME, questions())

    assert isinstance(refused, NotNow)
    assert reason == refused.reason
    assert (7_000 if fault is Fault.RATE_LIMITED else None) == refused.retry_after_ms
    assert 0 == haiku_today(spending).held_nano_usd
    assert {reason.value: 1} == haiku_today(spending).counts
    assert Pending("msgbatch_local_000001", 1) == model_client().submit(NAME, questions())


@pytest.mark.parametrize(
    "fault",
    [Fault.NOT_FOUND, Fault.RATE_LIMITED, Fault.SERVER_ERROR, Fault.HTML, Fault.HALF_JSON, Fault.HANG_UP,
     Fault.OTHER_JSON, Fault.EMPTY, Fault.HALF_BODY],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1], ids=["retrieve", "results"])
def test_a_look_that_fails_changes_nothing_and_the_next_one_answers(
    fault: Fault, step: int, api: MessagesApi, client: ModelClient, spending: Spending
):
    client.submit(NAME, questions())
    before = haiku_today(spending)
    api.batches.script(*[Act()] * step, fault)

    failed = client.look(NAME, questions())

    if step and fault is Fault.EMPTY:
        # No lines are no results: one that is missing stays held.
        assert isinstance(failed, Ended)
    else:
        assert isinstance(failed, NotNow)
    assert before == haiku_today(spending)
    assert isinstance(outcome_of(client), Answer)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act(outcome="expired"), Reason.EXPIRED),
        (Act(outcome="canceled"), Reason.CANCELED),
        (Act(fault=Fault.BAD_REQUEST), Reason.INVALID_REQUEST),
        (Act(fault=Fault.SERVER_ERROR), Reason.SERVER_ERROR),
        (Act(fault=Fault.OVERLOADED), Reason.OVERLOADED),
    ],
)
def test_a_question_without_an_answer_gives_its_money_back_and_the_others_are_answered(
    act: Act, reason: Reason, api: MessagesApi, client: ModelClient, spending: Spending
):
    api.script(a_score(), act)
    client.submit(NAME, questions("a", "b"))

    seen = client.look(NAME, questions("a", "b"))

    assert isinstance(seen, Ended)
    good, bad = seen.outcomes["a"], seen.outcomes["b"]
    assert isinstance(good, Answer)
    assert isinstance(bad, Fallback)
    assert (reason, 0) == (bad.reason, bad.cost_nano_usd)
    haiku = haiku_today(spending)
    assert (good.cost_nano_usd, 0) == (haiku.cost_nano_usd, haiku.held_nano_usd)
    assert (1, 1) == (haiku.counts["calls"], haiku.counts[reason.value])


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (Act(fault=Fault.REFUSAL), Reason.REFUSED),
        (Act(fault=Fault.CUT_OFF), Reason.CUT_OFF),
        (Act(fault=Fault.NOT_JSON), Reason.INVALID_JSON),
        (Act(fault=Fault.WRONG_SCHEMA), Reason.INVALID_ANSWER),
        (Act(fault=Fault.UNSAFE), Reason.UNSAFE_ANSWER),
        (Act(value=a_score(family="made/up")), Reason.INVALID_ANSWER),
    ],
)
def test_an_answer_that_cannot_be_used_is_paid_for(
    act: Act, reason: Reason, api: MessagesApi, client: ModelClient, spending: Spending
):
    api.script(act)
    client.submit(NAME, questions())

    outcome = outcome_of(client)

    assert isinstance(outcome, Fallback)
    assert reason == outcome.reason
    assert (outcome.cost_nano_usd, 0) == (
        haiku_today(spending).cost_nano_usd,
        haiku_today(spending).held_nano_usd,
    )
    assert outcome.cost_nano_usd > 0


def test_a_batch_that_takes_longer_than_a_day_expires_for_nothing(
    api: MessagesApi, client: ModelClient, spending: Spending, times: Times
):
    api.batches.takes_s = 2 * DAY_S
    client.submit(NAME, questions())
    times.now_s += DAY_S

    outcome = outcome_of(client)

    assert isinstance(outcome, Fallback)
    assert Reason.EXPIRED == outcome.reason
    assert 0 == sum(each["haiku"].held_nano_usd for each in spending.days(3).values() if each)


def test_a_cancelled_batch_gives_its_money_back(api: MessagesApi, client: ModelClient, spending: Spending):
    api.batches.takes_s = 3_600
    client.submit(NAME, questions())

    assert Pending("msgbatch_local_000001", 1) == client.cancel(NAME)

    outcome = outcome_of(client)
    assert isinstance(outcome, Fallback)
    assert Reason.CANCELED == outcome.reason
    assert (0, 0) == (haiku_today(spending).cost_nano_usd, haiku_today(spending).held_nano_usd)


def test_a_batch_that_may_cost_more_than_is_left_is_not_sent(
    api: MessagesApi, model_client: Callable[..., ModelClient], spending: Spending
):
    refused = model_client(tier={"daily_budget_usd": 0.0001}).submit(NAME, questions())

    assert isinstance(refused, NotNow)
    assert (Reason.BUDGET_SPENT, 0) == (refused.reason, api.batches.count)
    assert {"budget_spent": 1} == haiku_today(spending).counts
    assert Pending("msgbatch_local_000001", 1) == model_client().submit(NAME, questions())


def test_without_redis_nothing_is_sent(api: MessagesApi):
    away = Store.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    client = ModelClient(tiers(), Spending(away), Credentials(KEY), base_url=api.url)

    refused = client.submit(NAME, questions())

    assert isinstance(refused, NotNow)
    assert (Reason.NO_LEDGER, 0) == (refused.reason, api.batches.count)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"key": None}, Reason.NO_KEY), ({"enabled": False}, Reason.DISABLED), ({"key": "a b"}, Reason.AUTH)],
)
def test_who_may_not_ask_sends_no_batch(
    options: dict[str, Any], reason: Reason, api: MessagesApi, model_client: Callable[..., ModelClient]
):
    refused = model_client(**options).submit(NAME, questions())

    assert isinstance(refused, NotNow)
    assert (reason, 0) == (refused.reason, api.batches.count)


def test_a_batch_that_nobody_sent_cannot_be_looked_at(client: ModelClient):
    for found in (client.look(NAME, questions()), client.cancel(NAME)):
        assert isinstance(found, NotNow)
        assert (Reason.INVALID_REQUEST, f"no batch {NAME} was sent") == (found.reason, found.detail)


@pytest.mark.parametrize("name", ["", "a b", "x" * 41, "a/../b"])
def test_a_name_that_cannot_be_sent_is_an_error_at_once(name: str, client: ModelClient):
    with pytest.raises(ValueError, match="the name of a batch"):
        client.submit(name, questions())
    with pytest.raises(ValueError, match="the name of a question"):
        client.submit(NAME, questions(name))


def test_questions_of_two_tiers_are_two_batches(client: ModelClient):
    with pytest.raises(ValueError, match="one tier and one purpose"):
        client.submit(NAME, {"a": a_question(), "b": a_question(tier="sonnet")})
