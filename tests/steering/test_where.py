"""The filter: what it chooses, and how it refuses what it cannot read."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core.states import State
from joelclaw_tasks.errors import InvalidFilter, InvalidScore, InvalidTtl
from joelclaw_tasks.steering.score import slack_of
from joelclaw_tasks.steering.ttl import LONGEST_PAUSE_MS, parse_ttl_ms
from joelclaw_tasks.steering.where import Where
from tests.steering.conftest import SLACK_MS, job

NOW = 1_760_000_600_000
MADE = job(
    "a-1", data={"path": "notes/a b.md", "size": 12, "draft": True, "repo": {"name": "x"}, "none": None}
)
JOB = {
    "id": "a-1", "queue": "io", "family": "note", "handler": "note.index", "lane": "io|note.index|",
    "state": "available", "priority": "P2", "available_at": NOW - 600_000, "kills": 0, "claims": 2,
    "retries": 1, "steered_by": None, "payload": MADE.payload.encode(),
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "family=note", "family!=other", "family~no*", "family!~x*", "id=a-1 queue=io", "age>=10m", "age>599",
        "age<11m", "priority=P2", "claims=2", "claims>1", "kills<1", "retries<=1", "steered_by=null",
        "data.path='notes/a b.md'", "data.path~notes/*", "data.size>11", "data.size=12", "data.size=12.0",
        "data.draft=true", "data.repo.name=x", "data.none=null", "data.nothing=null", "meta.by=ada",
        "args[0].name=note", "kwargs={}", "state=available", 'handler="note.index"',
    ],
)  # fmt: skip
def test_a_job_that_fulfils_every_term_is_chosen(text):
    assert Where(text).matches(JOB, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "family=other", "family=note queue=q", "family!=note", "family~x*", "age>10m", "age<=9m",
        "priority=P1", "data.size>12", "data.path>1", "data.draft>0", "data.nothing>0", "data.draft=True",
        "data.size=1",        "steered_by~j*", "family=NOTE", "id=a", "state=held",
    ],
)  # fmt: skip
def test_a_job_that_misses_one_term_is_not(text):
    assert not Where(text).matches(JOB, NOW)


def test_a_plain_call_is_chosen_by_its_arguments():
    plain = {**JOB, "payload": job("p", call=([1, "two"], {"user": 7})).payload.encode()}
    assert Where("args[1]=two kwargs.user=7 data=null").matches(plain, NOW)


@pytest.mark.parametrize("payload", [None, b"", b"\xff", b"[]", b'{"body": 1}', b"[" * 100_000])
def test_a_message_that_cannot_be_read_has_no_data(payload):
    assert not Where("data.path~*x*").matches({**JOB, "payload": payload}, NOW)
    assert Where("data.path=null").matches({**JOB, "payload": payload}, NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"), ("  ", "empty"), ("family", "no term"), ("=x", "no term"), ("famly=note", "famly"),
        ("family=note and queue=q", "and"), ("age>soon", "soon"), ("claims>x", "x"), ("family>note", "note"),
        ("data.[=1", "JMESPath"), ("id='x", "quote"), ("state=waiting", "waiting"), ("dataset=1", "dataset"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(text, says):
    with pytest.raises(InvalidFilter, match=says):
        Where(text)


def test_a_filter_knows_which_lanes_and_states_it_can_do_without():
    where = Where("family=note state!=held")
    assert where.wants_lane("q", "note", "h")
    assert not where.wants_lane("q", "other", "h")
    assert set(State) - {State.HELD} == where.states()
    assert Where("family=note").states() is None
    assert not Where("family=note").needs_payload
    assert Where("data.x=1").needs_payload


@pytest.mark.parametrize(
    ("score", "slack_ms", "level"),
    [
        ("P0", 0, 0), ("p3", 900_000, 3), (100, 0, 0), (0, 900_000, 3), ("50", 450_000, 3), (99, 9_000, 1),
        (94, 54_000, 1), (93, 63_000, 2), (70, 270_000, 2), (66, 306_000, 3),
    ],
)  # fmt: skip
def test_a_score_is_a_slack_between_those_of_p0_and_p3(score, slack_ms, level):
    assert (slack_ms, level) == slack_of(score, SLACK_MS)


@pytest.mark.parametrize("score", ["P4", "", "-1", 101, "1.5", True, "٣", "9" * 5_000])
def test_another_score_is_refused(score):
    with pytest.raises(InvalidScore, match="100"):
        slack_of(score, SLACK_MS)


@pytest.mark.parametrize(
    ("ttl", "ms"), [("60s", 60_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000), ("90", 90_000),
                    (60, 60_000), (61.5, 61_500), (None, 0), (" 1D ", 86_400_000)],
)  # fmt: skip
def test_a_ttl_is_text_or_seconds(ttl, ms):
    assert ms == parse_ttl_ms(ttl, LONGEST_PAUSE_MS)


@pytest.mark.parametrize(
    "ttl", ["59s", 0, "2d", "25h", "-1m", "m", "", 1e300, float("nan"), float("inf"), True, "٩0"]
)
def test_a_ttl_out_of_bounds_is_refused(ttl):
    with pytest.raises(InvalidTtl):
        parse_ttl_ms(ttl, LONGEST_PAUSE_MS)
