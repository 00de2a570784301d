"""The Lua linter finds each kind of fault, in the file and line where it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.lint_lua import Fault, lint


def keys(text):
    return text.replace("job_key(", "('job:' .. ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path


def write(folder: Path, name: str, *lines: str, header: str = "-- verb: what it is for.") -> None:
    (folder / f"{name}.lua").write_text("\n".join((header, *lines)) + "\n")


def test_a_good_script_with_nested_includes_has_no_faults(folder):
    write(folder, "complete", "--@include move", "return move(ARGV[1], tonumber(ARGV[2]))")
    write(
        folder, "shared/move",
        "--@include state",
        "local function move(job, now_ms)",
        "  for field, value in pairs({state = STATES.done, [STATES.at] = now_ms}) do",
        "    redis.call('HSET', job_key(job), field, value)",
        "  end",
        "  repeat local left = next({}) until left == nil",
        "  return redis.status_reply('OK')",
        "end",
    )  # fmt: skip
    write(folder, "shared/state", "local STATES = {done = 'completed', at = 'finished_at'}")

    assert [] == lint(folder, keys)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("local x = = 1", "does not compile under Lua 5.1: unexpected symbol near '='"),
        ("local x = 7 // 2 return x", "does not compile under Lua 5.1: unexpected symbol near '/'"),
        ("goto done ::done::", "does not compile under Lua 5.1: '=' expected near 'done'"),
        ("counter = 1", "assigns the global counter; declare it local"),
        ("function helper() end", "assigns the global helper; declare it local"),
        ("redis = nil", "assigns the global redis; declare it local"),
        ("return os.time()", "reads the global os, which Redis does not offer or we do not use"),
        ("return {[jobid] = 1}", "reads the global jobid, which Redis does not offer or we do not use"),
        (
            "do local x = 1 tonumber(x) end return x",
            "reads the global x, which Redis does not offer or we do not use",
        ),
        ("local x = x return x", "reads the global x, which Redis does not offer or we do not use"),
        ("local state = ARGV[1]", "local state is never read"),
        ("local n = 1 n = 2", "local n is never read"),
        ("local function f() end", "local f is never read"),
        ("for i, job in ipairs(ARGV) do redis.log(1, job) end", "local i is never read"),
        ("for i = 1, 2 do end", "local i is never read"),
        ("return (function(job) return 1 end)()", "local job is never read"),
        ("return '" + "x" * 110 + "'", "is 119 characters long; 110 is the most"),
        ("return 1 ", "ends with blanks"),
        (
            "--@Include state",
            "'--@Include state' is not one of --@include, --@lazy and --@gives, with a name",
        ),
    ],
)
def test_each_kind_of_fault_is_reported_where_it_is(folder, line, fault):
    write(folder, "claim", "", line)

    assert [Fault("claim.lua", 3, fault)] == lint(folder, keys)


@pytest.mark.parametrize("header", ["return 1", "", "--", "-- claim", "--@include keys"])
def test_a_file_without_a_purpose_is_refused(folder, header):
    if header == "--@include keys":
        write(folder, "shared/keys", "redis.log(1, KEYS[1])")
    write(folder, "claim", "return 2" if not header.startswith("return") else "", header=header)

    fault = Fault("claim.lua", 1, "opens without a comment that says what the file is for")
    assert [fault] == lint(folder, keys)


def test_a_fault_in_an_include_names_the_include_once(folder):
    write(folder, "claim", "--@include move", "move()")
    write(folder, "admit", "--@include move", "move()")
    write(folder, "shared/move", "", "local function move() total = 1 end")

    assert [Fault("shared/move.lua", 3, "assigns the global total; declare it local")] == lint(folder, keys)


def test_a_shared_local_must_be_read_by_one_of_its_includers_only(folder):
    write(folder, "claim", "--@include two", "return one()")
    write(folder, "admit", "--@include two", "return 1")
    write(folder, "shared/two", "local function one() return 1 end", "local function other() return 2 end")

    assert [Fault("shared/two.lua", 3, "local other is never read")] == lint(folder, keys)


def test_an_underscore_says_that_a_value_is_not_wanted(folder):
    write(folder, "claim", "for _, job in ipairs(ARGV) do redis.log(1, job) end")

    assert [] == lint(folder, keys)


def test_missing_circular_and_unused_includes_are_reported(folder):
    write(folder, "claim", "--@include nothing")
    write(folder, "admit", "--@include egg")
    write(folder, "shared/egg", "--@include hen")
    write(folder, "shared/hen", "--@include egg")
    write(folder, "shared/idle", "return 1")

    assert [
        Fault("admit.lua", 1, "includes form a cycle: admit -> egg -> hen -> egg"),
        Fault("claim.lua", 1, "includes nothing, but there is no shared/nothing.lua"),
        Fault("shared/egg.lua", 1, "no script includes this file"),
        Fault("shared/hen.lua", 1, "no script includes this file"),
        Fault("shared/idle.lua", 1, "no script includes this file"),
    ] == lint(folder, keys)
