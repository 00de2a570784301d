"""Signatures: what they cover, what they bear, and which keys count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.rules import Batch, Debounce, Rules, Window
from joelclaw_tasks.core.signing import (
    ALONE,
    BATCHED,
    DEBOUNCED,
    Signing,
    merge_of,
    signing_of,
    signing_of_environment,
)
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.settings import Settings

MONDAY, FRIDAY = "the key of monday", "the key of friday"
MESSAGE = json.dumps(
    {
        "body": "W1sxXSwge30sIHt9XQ==",
        "headers": {"task": "add", "id": "a", "retries": 2, "expires": "2026-01-01T00:00:00", "tenant": "x"},
        "properties": {"jc": {"gates": ["limit:resource/nas"], "lane": "ann"}, "body_encoding": "base64"},
    }
)


def signed(signing: Signing, payload: str | bytes = MESSAGE, queue: str = "q") -> bytes:
    job = Job(id="a", queue=queue, family="f", handler="h", lane="l", payload=payload)
    signing.sign(job)
    assert type(payload) is type(job.payload)
    return job.payload.encode() if isinstance(job.payload, str) else job.payload


@pytest.fixture
def monday() -> Signing:
    return Signing(MONDAY, None, required=True)


@pytest.mark.parametrize("payload", [MESSAGE, MESSAGE.encode(), MESSAGE.replace(": ", ":"), '{"é": "☃"}'])
def test_a_signed_message_is_the_same_message_and_fits(monday: Signing, payload: str | bytes):
    found = signed(monday, payload)
    assert "" == monday.fault("q", found)
    read = json.loads(found)
    assert read.pop("jc_signature").startswith("v1-:")
    assert json.loads(payload) == read
    assert MONDAY.encode() not in found


def test_a_message_is_signed_once(monday: Signing):
    assert signed(monday) == signed(monday, signed(monday))
    assert signed(monday) == signed(monday)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"add"', '"sub"'), ('"id": "a"', '"id": "b"'), ("W1sx", "W1sy"), ("nas", "gpu"),
        ('"ann"', '"bob"'),
        ('"x"', '"y"'), ('["limit:resource/nas"]', "[]"), ("base64", "utf-8"),
        ('"headers": ', '"headers":  '),
        ('{"body"', '{"n": 1, "body"'), (',"jc_sig', ', "jc_sig'), ("v1-:", "v2-:"), ("v1-", "v1d"),
        ('"jc_signature"', '"sig"'),
    ],
)  # fmt: skip
def test_whatever_is_changed_does_not_fit(monday: Signing, old: str, new: str):
    found = signed(monday).decode()
    changed = found.replace(old, new, 1)
    assert found != changed
    assert monday.fault("q", changed.encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"{}", b'"}', MESSAGE.encode(), MESSAGE[:-1].encode() + b',"jc_signature":"v1-:"}',
        MESSAGE[:-1].encode() + b',"jc_signature":"v1-:' + b"0" * 64 + b'"}', b"\xff" * 200,
        b',"jc_signature":"v1-:' + b"0" * 64 + b'"}',
    ],
)  # fmt: skip
def test_what_is_not_signed_does_not_fit(monday: Signing, payload: bytes):
    assert monday.fault("q", payload)


@pytest.mark.parametrize(
    ("rules", "merge"),
    [
        (Rules(), ALONE), (Rules(debounce=Debounce("k", 1_000, 5_000)), DEBOUNCED),
        (Rules(batch=Batch("k", 3, 5_000)), BATCHED), (Rules(dedup=Window("k", 1_000)), ALONE),
    ],
)  # fmt: skip
def test_a_signature_says_whether_the_call_may_become_part_of_another(
    monday: Signing, rules: Rules, merge: bytes
):
    rules_text = rules.encode() if rules != Rules() else ""
    job = Job(id="a", queue="q", family="f", handler="h", lane="l", payload=MESSAGE, rules=rules_text)
    monday.sign(job)
    assert merge == merge_of(job.payload.encode())
    assert "" == monday.fault("q", job.payload.encode())


def test_a_message_fits_its_own_queue_only(monday: Signing):
    assert "queue (other)" in monday.fault("other", signed(monday))


def test_a_message_that_is_revived_still_fits(monday: Signing):
    found = signed(monday).decode()
    as_new = found.replace('"retries": 2', '"retries": 0').replace('"2026-01-01T00:00:00"', "null")
    assert found != as_new
    assert "" == monday.fault("q", as_new.encode())


def test_the_core_revives_what_still_fits(core, monday: Signing):
    more = MESSAGE.replace('"tenant": "x"', '"nested": {"retries": 7, "expires": "soon"}')
    core.store.signing = monday
    for payload in (MESSAGE, more):
        core.admit("a", payload=payload)
        for _ in range(3):
            core.store.discard(core.start(), "failed")
            assert [Word.REVIVED] == core.store.revive(["a"], actor="t", reason="")
        [job] = core.claim().jobs
        assert payload.encode() not in job.payload
        assert "" == monday.fault("q", job.payload)
        core.store.complete([job.tag])


def test_every_way_into_the_core_signs_but_that_of_stock_producers(core, monday: Signing):
    core.store.signing = monday
    core.store.admit([core.job("a", payload="{}")])
    core.store.admit_many([[core.job("b", payload="{}")]])
    core.store.client.execute_command("EVALSHA", *core.store.admit_command([core.job("c", payload="{}")]))
    for one in core.claim(most=3).jobs:
        assert "" == monday.fault("q", one.payload)
        core.store.retry(core.job(one.tag.split("#")[0], payload='{"n": 2}', lease_tag=one.tag))
        core.store.complete([one.tag])
    again = core.claim(most=3).jobs
    assert [b'{"n": 2'] * 3 == [one.payload[:7] for one in again]
    assert [""] * 3 == [monday.fault("q", one.payload) for one in again]

    core.text.lpush(core.key.inbox("q"), '{"stock": 1}')
    core.store.adopt("q", lambda payload: core.job("d", payload=payload))
    [stock] = core.claim().jobs
    assert b'{"stock": 1}' == stock.payload


# -- keys -------------------------------------------------------------------------------------------------


def test_the_first_line_of_the_file_signs_and_every_key_is_accepted(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"{FRIDAY}\n{MONDAY}\n")
    both = Signing("the key of the environment", file, required=False)
    friday, monday = (Signing(key, None, required=True) for key in (FRIDAY, MONDAY))
    environment = Signing("the key of the environment", None, required=True)

    assert "" == friday.fault("q", signed(both))
    assert monday.fault("q", signed(both))
    assert ["", "", ""] == [both.fault("q", signed(one)) for one in (friday, monday, environment)]


def test_a_key_that_only_the_producer_knows_yet_is_looked_for_at_once(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"{MONDAY}\n")
    worker = Signing(None, file, required=True)
    assert "" == worker.fault("q", signed(Signing(MONDAY, None, required=False)))
    file.write_text(f"{FRIDAY}\n{MONDAY}\n")
    assert "" == worker.fault("q", signed(Signing(FRIDAY, None, required=False)))  # within the same second
    file.write_text(f"{FRIDAY}\n")
    worker._from_file.look()
    assert worker.fault("q", signed(Signing(MONDAY, None, required=False)))


def test_nothing_is_sent_unsigned_when_the_file_of_keys_is_emptied(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"{MONDAY}\n")
    signing = Signing(None, file, required=True)
    by_monday = signed(signing)
    file.write_text("\nshort\n")
    signing._from_file.look()
    with pytest.raises(SettingsError, match="nothing is sent unsigned"):
        signed(signing)
    assert signing.fault("q", by_monday)


def test_keys_that_cannot_do_are_refused_by_name(tmp_path: Path):
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "empty").write_text("\n")
    for key, file, says in (
        ("short", None, "16 characters"),
        (None, tmp_path / "short", "16 characters"),
        (None, tmp_path / "empty", "no signing key"),
        (None, None, "no signing key"),
        (None, tmp_path / "none", "cannot be read"),
    ):
        with pytest.raises(SettingsError, match=says) as caught:
            Signing(key, file, required=True)
        assert "short\n" not in str(caught.value)


def test_signing_is_off_until_somebody_asks_for_it(tmp_path: Path):
    assert signing_of(Settings()) is None
    assert signing_of_environment({"JOELCLAW_SIGNING_KEY": "", "PATH": "x", "JOELCLAW_NO_SUCH": "1"}) is None
    told = signing_of_environment({"JOELCLAW_SIGNING_KEY": MONDAY})
    assert told is signing_of_environment({"JOELCLAW_SIGNING_KEY": MONDAY, "PATH": "x"})
    assert told is signing_of(Settings(signing_key=MONDAY))
    assert not told.required
    assert signing_of_environment({"JOELCLAW_SIGNING_KEY": MONDAY, "JOELCLAW_REQUIRE_SIGNED": "1"}).required
    with pytest.raises(SettingsError, match="no signing key"):
        signing_of_environment({"JOELCLAW_REQUIRE_SIGNED": "1"})
    with pytest.raises(SettingsError, match="JOELCLAW_REQUIRE_SIGNED"):
        signing_of_environment({"JOELCLAW_REQUIRE_SIGNED": "perhaps"})
    assert MONDAY not in repr(Settings(signing_key=MONDAY))
