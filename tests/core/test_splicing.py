"""How scripts are put together: each shared file once, and what few calls need only where one needs it."""

from __future__ import annotations

import pytest

from joelclaw_tasks.core import scripts


@pytest.fixture
def run(core, monkeypatch, tmp_path):
    """Splices the script `main` of the given files and runs it on the Redis of the test."""
    (tmp_path / "shared").mkdir()
    monkeypatch.setattr(scripts, "_folder", lambda: tmp_path)

    def run_files(*args: str, **files: str):
        for name, text in files.items():
            (tmp_path / ("main.lua" if name == "main" else f"shared/{name}.lua")).write_text(text)
        return core.text.eval(scripts.load_source.__wrapped__("main"), 1, "made", *args)

    return run_files


PARTS = """--@gives double
redis.call("INCR", KEYS[1])
local function half(n) return n / 2 end
local function double(n) return half(n) * 4 end
"""


def test_a_lazy_file_is_made_once_and_only_when_one_of_its_functions_is_called(run, core):
    main = "--@lazy parts\nif ARGV[1] == 'no' then return 0 end\nreturn double(double(3))"

    assert 0 == run("no", main=main, parts=PARTS)
    assert not core.text.exists("made")
    assert 12 == run("yes", main=main, parts=PARTS)
    assert "1" == core.text.get("made")


def test_only_calls_are_led_to_a_lazy_file(run):
    main = """--@lazy parts
local t = { double = 5, text = 'double(' }
return { t.double, t.text, double(1) } -- double(9)
"""

    assert [5, "double(", 2] == run(main=main, parts=PARTS)


def test_what_was_included_before_is_not_made_again_by_a_lazy_file(run, core):
    main = "--@include parts\n--@lazy more\nreturn four_times(2)"
    more = "--@include parts\n--@gives four_times\nlocal function four_times(n) return double(double(n)) end"

    assert 8 == run(main=main, parts=PARTS, more=more)
    assert "1" == core.text.get("made")


def test_a_lazy_file_within_a_lazy_file_is_made_when_it_is_needed_there(run, core):
    main = "--@lazy more\nreturn { same(1), same(2), ARGV[1] and four_times(2) }"
    more = """--@lazy parts
--@gives same four_times
local function same(n) return n end
local function four_times(n) return double(double(n)) end
"""

    assert [1, 2] == run(main=main, parts=PARTS, more=more)
    assert not core.text.exists("made")
    assert [1, 2, 8] == run("yes", main=main, parts=PARTS, more=more)
    assert "1" == core.text.get("made")


@pytest.mark.parametrize(("gates", "made"), [((), 0), (("limit:nas",), 1)])
def test_a_claim_makes_what_gates_need_only_for_a_lane_that_has_some(core, gates, made):
    core.store.limit({"limit:nas": 1}, actor="t", reason="")
    core.admit("a", gates=gates)
    script = scripts.load_source("claim").replace("return reply\n", "return parking_functions and 1 or 0\n")
    keys, args = core.store._claim_args(["q"], 1, "w1", [])

    assert made == core.text.eval(script.rstrip() + "\n", 1, core.store.keys.prefix, *keys, *args)
    assert "executing" == core.state("a")
