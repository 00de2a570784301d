"""The rules folder: what a rule may give, and what happens to one that is broken, hangs or dies."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from joelclaw_tasks.handlers.document import Document
from joelclaw_tasks.handlers.rule_pool import Checked, RulePool
from tests.cli.conftest import JoelclawProcess
from tests.conftest import wait_until

TEXT = "---\nstatus: accepted\n---\n# A title\n"
GOOD = "def check(document): yield 1, 'one'"
#: What hangs costs a test this much; a good rule must load within it, however busy the machine is.
LIMIT_MS = 1_000


class Bench:
    """A rules folder, and its pool."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.kept = tmp_path / "rules", tmp_path / "kept"
        self.folder.mkdir()
        self.root = tmp_path
        self.pool = RulePool(self.folder, self.kept, LIMIT_MS)

    def write(self, name: str, source: str) -> None:
        (self.folder / f"{name}.py").write_text(source)

    def check(self, pool: RulePool | None = None) -> Checked:
        document = Document(self.root, PurePosixPath("adr/0001-a.md"), "adr", TEXT)
        return (pool or self.pool).check(document)

    def found(self) -> list[tuple[str, str]]:
        return [(finding.rule, finding.message) for finding in self.check().findings]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.pool.close()


@pytest.fixture
def joelclaw(tmp_path: Path) -> JoelclawProcess:
    (tmp_path / "data" / "rules").mkdir(parents=True)
    return JoelclawProcess(tmp_path, None)


def test_a_rule_sees_the_document_and_gives_findings_in_every_form(bench: Bench) -> None:
    bench.write(
        "forms",
        "from joelclaw_tasks.handlers.finding import Finding\n"
        "def check_text(document): return [document.fields['status']]\n"
        "def check_pair(document): yield document.line_of('status'), document.kind\n"
        "def check_triple(document): yield 4, str(document.path), 'warning'\n"
        "def check_own_name(document): yield Finding(1, 'mine', document.text[:3])\n"
        "def check_nothing(document): pass\n"
        "def helper(document): yield 1, 'never'\n",
    )

    found = {(each.rule, each.line, each.message, each.severity) for each in bench.check().findings}

    assert {
        ("forms.text", 1, "accepted", "error"),
        ("forms.pair", 2, "adr", "error"),
        ("forms.triple", 4, "adr/0001-a.md", "warning"),
        ("mine", 1, "---", "error"),
    } == found


def test_without_rules_no_process_is_started(bench: Bench) -> None:
    assert Checked() == bench.check()
    assert [] == bench.pool._idle


def test_a_rule_that_raises_is_a_finding_and_hides_no_other(bench: Bench) -> None:
    bench.write("a", "def check(document):\n yield 1, 'before'\n raise ValueError('boom')")
    bench.write("b", "def check(document): raise SystemExit(3)")
    bench.write("c", "def check(document): yield 7")
    bench.write("d", GOOD)

    assert [
        ("a", "before"),
        ("rule.raised", "the rule a failed: ValueError: boom"),
        ("rule.raised", "the rule b failed: SystemExit: 3"),
        (
            "rule.raised",
            "the rule c failed: TypeError: a finding is (line, message) or (line, message, severity), not 7",
        ),
        ("d", "one"),
    ] == bench.found()


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("def check(:", "line 1: invalid syntax"),
        ("raise OSError('no')", "OSError: no"),
        ("", "it has no function check or check_…(document)"),
        ("import time\nwhile True: time.sleep(9)", "it did not load within the time limit"),
    ],
)
def test_a_broken_module_keeps_its_last_good_version_even_in_a_new_process(
    bench: Bench, broken: str, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write("a", GOOD)
    bench.check()
    bench.write("a", broken)
    caplog.set_level(logging.WARNING)

    here = [bench.check() for _ in range(2)]
    elsewhere = RulePool(bench.folder, bench.kept, LIMIT_MS)
    there = bench.check(elsewhere)
    elsewhere.close()

    for checked in (*here, there):
        assert ["one"] == [finding.message for finding in checked.findings]
        assert [{"name": "a", "status": "kept", "error": error}] == checked.troubles
    said = f"rules: a.py is broken, the last good version runs: {error}"
    assert [said] * 2 == caplog.messages  # once in each pool
    bench.write("a", GOOD.replace("one", "mended"))
    assert [("a", "mended")] == bench.found()
    assert [] == bench.check().troubles


def test_a_rule_that_was_never_good_is_left_out_and_a_deleted_one_is_gone(bench: Bench) -> None:
    bench.write("a", GOOD)
    bench.write("b", "def check(:")
    assert [("a", "one")] == bench.found()
    assert ["broken"] == [module["status"] for module in bench.check().troubles]

    (bench.folder / "a.py").unlink()

    assert [] == bench.found()


def test_a_rule_that_loops_is_ended_and_after_three_times_left_out_until_it_changes(bench: Bench) -> None:
    bench.write("a", "def check(document):\n while True: pass")
    bench.write("b", GOOD)
    late = ("rule.timeout", "the rule a did not end within 1 s")
    aside = ("rule.timeout", "the rule a is left out until its file changes: it ran out of time 3 times")

    rounds = [bench.found() for _ in range(5)]
    bench.write("a", GOOD)

    assert [[late, ("b", "one")]] * 3 + [[aside, ("b", "one")]] * 2 == rounds
    assert [("a", "one"), ("b", "one")] == bench.found()


def test_a_rule_that_kills_its_process_hides_no_other(bench: Bench) -> None:
    bench.write("a", "import os\ndef check(document): os.abort()")
    bench.write("b", GOOD)

    assert [("rule.timeout", "the rule a ended its process"), ("b", "one")] == bench.found()


def test_a_rule_sees_no_secret_and_may_print(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:9")
    bench.write(
        "a",
        "import os\ndef check(document):\n print('noise', flush=True)\n yield 1, repr(sorted(os.environ))",
    )

    ((_, seen),) = bench.found()

    assert "PATH" in seen
    assert "REDIS_URL" not in seen
    assert "ANTHROPIC" not in seen


def test_endless_findings_end_and_one_that_was_killed_while_idle_is_replaced(bench: Bench) -> None:
    bench.write("a", "import os\ndef check(document):\n while True: yield 1, str(os.getpid())")
    found = bench.found()
    assert 100 == len(found)
    os.kill(int(found[0][1]), signal.SIGKILL)

    assert found[0][1] != bench.found()[0][1]


def test_two_at_once_have_a_process_each(bench: Bench) -> None:
    bench.write("a", "import os\ndef check(document): yield 1, str(os.getpid())")
    together = threading.Barrier(2)
    found: list[Any] = []

    def run() -> None:
        together.wait(10)
        found.append(bench.found())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == len({pid for ((_, pid),) in found})
    bench.found()
    assert 2 == len(bench.pool._idle)


def test_the_process_ends_with_whoever_asked(bench: Bench, alive: Callable[[int], bool]) -> None:
    bench.write("a", "import os\ndef check(document): yield 1, str(os.getpid())")
    ((_, pid),) = bench.found()

    bench.pool._idle[0]._in.close()

    wait_until(lambda: not alive(int(pid)), "the process saw the end of its stdin")


@pytest.fixture
def alive() -> Callable[[int], bool]:
    def look(pid: int) -> bool:
        state = Path(f"/proc/{pid}/stat")
        return state.exists() and " Z " not in state.read_text()

    return look


def test_rules_list_says_what_is_good_kept_and_broken(joelclaw: JoelclawProcess) -> None:
    folder = joelclaw.home / "data" / "rules"
    (folder / "a.py").write_text(GOOD)
    joelclaw("rules", "list")
    (folder / "a.py").write_text("def check(:")
    (folder / "b.py").write_text("1/0")

    result = joelclaw("rules", "list").result
    seen = joelclaw.on_terminal("rules", "list").screen

    assert ["frontmatter", "wikilinks", "adr", "index"] == [rule["rule"] for rule in result["built_in"]]
    assert [("a", "kept", ["a"]), ("b", "broken", [])] == [
        (module["name"], module["status"], module["rules"]) for module in result["modules"]
    ]
    assert "a.py is broken, its last good version runs: line 1: invalid syntax" in seen
    assert "b.py is broken, it is left out: ZeroDivisionError" in seen


def test_rules_test_says_what_all_rules_find_and_stores_nothing(joelclaw: JoelclawProcess) -> None:
    (joelclaw.home / "data" / "rules" / "a.py").write_text(GOOD)
    page = joelclaw.home / "page.md"
    page.write_text("---\nstatus: [\n---\n")

    result = joelclaw("rules", "test", "page.md").result
    seen = joelclaw.on_terminal("rules", "test", "page.md").screen
    refused = joelclaw("rules", "test", "nothing.md")

    assert ["a", "frontmatter.malformed"] == sorted(finding["rule"] for finding in result["findings"])
    assert not result["ok"]
    assert "frontmatter.malformed" in seen
    assert (1, "RULES_FILE_UNUSABLE") == (refused.code, refused.error["code"])
    assert not (joelclaw.home / "data" / "reports").exists()
