"""The state table, the Lua and the docs say the same; scripts find their way back into Redis."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import redis

from joelclaw_tasks.core import scripts
from joelclaw_tasks.core.keys import KEYS, Keys
from joelclaw_tasks.core.states import TRANSITIONS, Verb, Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError, ScriptDrift
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port
from tests.core.chart import PAGE, chart, drawn

LUA = Path(scripts.__file__).parent / "lua"
SEVERAL_VERBS = {"settle"}  # complete and claim in one call
READERS = {"explain", "history"}  # no verbs: they change nothing
OBSERVERS = {"observe"}  # reads, and counts passes of the observer: nothing of a job or a gate changes
DIAGNOSERS = {"diagnose", "diagnosed"}  # the same of diagnoses
PULSE = {"health"}  # of what the health pulse found, not of jobs
NOTICES = {"notify", "notify_digest", "notify_take"}  # of what is told to people, not of jobs


def test_each_verb_has_one_script_and_each_script_is_a_verb():
    others = SEVERAL_VERBS | READERS | OBSERVERS | DIAGNOSERS | PULSE | NOTICES
    assert {verb.value for verb in Verb} == set(scripts.script_names()) - others


@pytest.mark.parametrize("verb", sorted({verb.value for _, verb, _ in TRANSITIONS}))
def test_each_verb_of_the_table_is_recorded_by_its_script(verb):
    if verb == "renew":
        pytest.skip("a renewal every few seconds is not worth an entry in the stream")
    assert f'"{verb}"' in scripts.load_source(verb)


def test_scripts_answer_exactly_the_words_of_the_enum():
    redis_says = {"WITHSCORES", "LIMIT", "XX", "CH", "GT", "GET", "MAXLEN", "RANK", "COUNT", "PX", "NX", "LT"}
    commands = {
        command
        for path in LUA.rglob("*.lua")
        for command in re.findall(r'redis\.call\("([A-Z]+)"', path.read_text())
    }
    spoken = {
        word for path in LUA.rglob("*.lua") for word in re.findall(r'"([A-Z][A-Z_]+)"', path.read_text())
    }
    assert {word.value for word in Word} == spoken - redis_says - commands


def test_keys_are_built_in_one_place_only():
    for path in LUA.rglob("*.lua"):
        text = path.read_text()
        assert "prefix .." not in text, path
        assert "{jc}" not in text, path
        for template in KEYS.values():
            if template.endswith(":%s"):
                assert f'"{template[:-2]}' not in text, f"{path} writes the key {template} itself"
        for call in re.findall(r'redis\.call\("[A-Z]+", "', text):
            pytest.fail(f"{path} names a key literally: {call}")


@pytest.mark.parametrize("path", sorted(LUA.rglob("*.lua")), ids=lambda path: path.stem)
def test_lua_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 130


def test_an_unknown_script_and_a_cycle_of_includes_are_errors(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError):
        scripts.load_source("nothing")
    (tmp_path / "shared").mkdir()
    (tmp_path / "a.lua").write_text("--@include b\n")
    (tmp_path / "shared" / "b.lua").write_text("--@include b\n")
    monkeypatch.setattr(scripts, "_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="cycle"):
        scripts.load_source("a")


def test_every_verb_works_after_redis_forgot_the_scripts(core):
    store, text = core.store, core.text

    def flushed():
        text.script_flush()
        return store

    core_words = [
        flushed().admit([core.job("a"), core.job("b"), core.job("c")]),
        flushed().admit_many([[core.job("d")], [core.job("e")]]),
    ]
    assert [[Word.ADMITTED] * 3, [[Word.ADMITTED], [Word.ADMITTED]]] == core_words
    tags = [job.tag for job in flushed().claim(["q"], 4, "w1").jobs]
    assert 4 == len(tags)
    assert 4 == flushed().renew("w1", {})
    assert Word.SUCCEEDED == flushed().retry(core.job("a", lease_tag=tags[0], retries=1))
    words, claim = flushed().settle(tags[:1], ["q"], 1, "w1")
    assert ([Word.RETRIED], 1) == (words, len(claim.jobs))
    assert [Word.RELEASED] == flushed().release(tags[1:2])
    assert Word.DISCARDED == flushed().discard(tags[2], "no")
    assert [Word.REVIVED] == flushed().revive(["c"], actor="t", reason="")
    assert [Word.CANCELLED] == flushed().cancel(["c"], actor="t", reason="")
    assert flushed().pause("pause:queue/q", actor="t", reason="")
    assert flushed().resume("pause:queue/q", actor="t")
    assert 1 == flushed().limit({"limit:x": 1}, actor="t", reason="")
    assert [Word.COMPLETED] == flushed().complete(tags[3:])
    assert 1 == flushed().expire(["w1"], reason="gone")


def test_a_part_of_a_pipeline_that_redis_forgot_is_run_again_once(core):
    core.admit("a")
    tag = core.start()
    core.admit("b")
    core.text.script_flush()
    core.store.client.script_load(scripts.load_source("claim"))

    words, claim = core.store.settle([tag], ["q"], 5, "w1")

    assert [Word.COMPLETED] == words
    assert ["b"] == [job.tag.split("#")[0] for job in claim.jobs]


def test_what_redis_knows_is_not_loaded_again(core, monkeypatch):
    # Redis writes every load into its append-only file, 850 KB for all of them.
    loads = []
    load = core.store._load
    monkeypatch.setattr(core.store, "_load", lambda names: (loads.append(names), load(names)))
    core.text.script_flush()
    core.admit("a")
    core.admit("b")
    core.store.load_scripts("admit", "claim")
    core.store.load_scripts("admit", "claim")
    assert [["admit"], ["claim"], []] == loads


def test_a_pipeline_of_somebody_else_can_carry_an_admit(core):
    core.store.load_scripts()
    command = core.store.admit_command([core.job("a")])
    pipe = core.store.client.pipeline()
    pipe.evalsha(*command)
    assert [[b"ADMITTED"]] == pipe.execute()


def test_a_word_that_python_does_not_know_is_named(core):
    core.store._call = lambda *_, **__: [b"PERHAPS"]
    with pytest.raises(ScriptDrift, match="PERHAPS"):
        core.store.admit([core.job()])


def test_without_a_url_there_is_a_clear_error():
    with pytest.raises(CoreUnreachable, match="REDIS_URL is not set"):
        Store.connect(Settings())


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:{port}/0", "unix:///nowhere/redis.sock", "redis://:secret@127.0.0.1:{port}/0"]
)
def test_a_redis_that_is_not_there_is_unreachable_by_every_verb(url):
    store = Store.connect(Settings(redis_url=url.format(port=free_port())))
    for call in (
        store.snapshot, store.list_jobs, store.load_scripts, store.holders,
        lambda: store.inspect("a"), lambda: store.queue_size("q"), lambda: store.held_by("w"),
        lambda: store.cancel_queue("q", actor="t", reason=""), lambda: store.settle(["a#1#1"], ["q"], 1, "w"),
        lambda: store.complete(["a#1#1"]), lambda: store.pause("pause:queue/q", actor="t", reason=""),
    ):  # fmt: skip
        with pytest.raises(CoreUnreachable, match="Redis does not answer") as caught:
            call()
        assert "secret" not in str(caught.value)
        assert isinstance(caught.value, JoelclawError)


def test_connect_takes_what_the_settings_say(redis_url):
    settings = Settings(
        redis_url=redis_url, key_prefix="{mine}:", lease_ms=4_000, max_kills=7, transitions_max=9
    )
    store = Store.connect(settings)
    assert ("{mine}:", 4_000, 7, 9) == (
        store.keys.prefix,
        store.lease_ms,
        store.max_kills,
        store.transitions_max,
    )
    assert 0 == store.snapshot()["total"]
    store.client.close()


def test_two_prefixes_on_one_redis_know_nothing_of_each_other(core, redis_url):
    other = Store(redis.Redis.from_url(redis_url), Keys("{other}:"))
    core.admit("a")
    assert 0 == other.snapshot()["total"]
    assert [] == other.claim(["q"], 9, "w").jobs
    other.client.close()


def test_the_stream_is_capped(core):
    core.store.transitions_max = 100
    core.store.admit([core.job() for _ in range(2_000)])
    assert core.text.xlen(core.key.transitions) < 300


@pytest.mark.parametrize("prefix", ["", "jc:", "{jc", "}{"])
def test_a_prefix_without_a_hash_tag_is_refused(prefix):
    with pytest.raises(ValueError, match="hash tag"):
        Keys(prefix)


def test_the_chart_in_the_docs_is_the_table():
    assert chart() == drawn(PAGE.read_text()), "run `python -m tests.core.chart`"


def test_every_script_that_moves_jobs_writes_the_counts_once():
    moving = [
        name
        for name in scripts.script_names()
        if "move_job(" in scripts.load_source(name).replace("function move_job(", "")
    ]

    for name in moving:
        own = (LUA / f"{name}.lua").read_text()
        # These only bring lanes back, or note a successor.
        moves = name not in {"pause", "resume", "limit", "rate", "drain", "retry", "reconcile"}
        assert int(moves) == own.count("write_counts()"), name
