"""The webhook: a receiver on loopback checks signature and age, and knows what it has had already."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from joelclaw_tasks.notify.webhook import signature
from tests.notify.conftest import HOUR, MINUTE, webhook
from tests.notify.servers import WEBHOOK_SECRET, Answer


def test_a_notification_is_posted_once_signed_and_with_all_that_is_known(office, receiver):
    notifier = office.configured(**webhook(receiver))

    notifier("Disk <full> & slow.", cause="disk", severity="error", change="opened")
    notifier("Disk <full> & slow.", cause="disk", severity="error", change="opened")

    ((id, body),) = receiver.received.items()
    assert {
        "type": "notification", "id": id, "at": office.clock.now_ms(), "text": "Disk <full> & slow.",
        "cause": "disk", "severity": "error", "change": "opened", "lines": [],
    } == body  # fmt: skip
    assert ["/hook"] == [asked.path for asked in receiver.asked]


def test_what_was_taken_although_the_answer_was_lost_has_the_same_id_when_it_comes_again(office, receiver):
    notifier = office.configured(**webhook(receiver))
    receiver.next_answers = [Answer(504), Answer(502)]

    notifier("one", cause="a")
    for _ in range(2):
        office.wait(MINUTE)
        notifier.run_due()

    assert 3 == len(receiver.asked)
    assert 1 == len({asked.headers["webhook-id"] for asked in receiver.asked})
    assert ["one"] == [body["text"] for body in receiver.received.values()]


def test_many_that_waited_come_as_one_digest_whose_id_stays_the_same(office, receiver):
    notifier = office.configured(**webhook(receiver))
    receiver.next_answers = [Answer(503, headers={"Retry-After": "600"})]
    for number in range(8):
        notifier(f"n{number}", cause=f"c{number}")
    office.wait(HOUR // 6 - 1)
    notifier.run_due()
    assert 1 == len(receiver.asked)
    office.wait(1)
    notifier.run_due()

    (body,) = receiver.received.values()
    assert ("digest", "notify.digest", 8) == (body["type"], body["cause"], len(body["lines"]))


@pytest.mark.parametrize("asked", ["inf", "nan", "-1", "soon", formatdate(0, usegmt=True)])
def test_a_receiver_that_asks_for_nonsense_is_asked_again_within_a_day(office, receiver, asked):
    notifier = office.configured(**webhook(receiver))
    receiver.next_answers = [Answer(503, headers={"Retry-After": asked})]
    notifier("one", cause="a")
    office.wait(24 * HOUR)

    notifier.run_due()

    assert ["one"] == [body["text"] for body in receiver.received.values()]


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_what_the_receiver_will_never_take_is_not_sent_again(office, receiver, status):
    notifier = office.configured(**webhook(receiver))
    receiver.next_answers = [Answer(status, {"error": "no"})]

    notifier("one", cause="a")
    office.wait(HOUR)
    notifier.run_due()

    assert 1 == len(receiver.asked)
    assert f"the webhook answered {status}" == office.notices.sink("webhook")["error"]


def test_a_redirect_is_not_followed(office, receiver):
    notifier = office.configured(**webhook(receiver))
    receiver.next_answers = [Answer(307, headers={"Location": receiver.url + "/elsewhere"})]

    notifier("one", cause="a")

    assert (1, {}) == (len(receiver.asked), receiver.received)


def test_an_address_with_a_query_is_asked_as_it_stands(office, receiver):
    office.configured(**webhook(receiver, "/a%20b/?key=v&x=1"))("one", cause="a")

    assert ["/a%20b/?key=v&x=1"] == [asked.path for asked in receiver.asked]
    assert 1 == len(receiver.received)


def test_a_password_in_the_address_is_sent_as_such_and_kept_out_of_the_path(office, receiver):
    settings = webhook(receiver)
    url = settings["notify_webhook_url"].replace("http://", "http://joel:p%40ss@")

    office.configured(**settings | {"notify_webhook_url": url})("one", cause="a")

    (asked,) = receiver.asked
    assert ("/hook", "Basic am9lbDpwQHNz") == (asked.path, asked.headers["authorization"])
    assert "@" not in asked.headers["host"]


def test_the_secret_and_the_address_are_in_no_log_and_no_error(office, receiver, caplog):
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", logger="httpx")  # a worker of an earlier test may have made it quiet
    notifier = office.configured(**webhook(receiver, "/hook/secret-path"))
    receiver.next_answers = [Answer(500)]

    notifier("one", cause="a")

    said = caplog.text + repr(office.settings) + str(office.notices.sink("webhook"))
    assert "HTTP Request: POST http://webhook" in caplog.text
    assert "secret-path" not in said.replace("receive_response", "")
    assert WEBHOOK_SECRET not in said


def test_the_signature_is_that_of_standard_webhooks():
    # The example of the Standard Webhooks specification.
    body = b'{"test": 2432232314}'
    found = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body
    )

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == found
