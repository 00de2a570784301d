"""Shared files: whole or untouched, and no update lost."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import files
from tests.handlers import writers


def _at_once(*calls: tuple) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=arguments) for target, *arguments in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [0] * len(processes) == [process.exitcode for process in processes]


def _content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".guards"}


def test_two_processes_that_count_in_one_document_lose_no_update(tmp_path: Path) -> None:
    path = tmp_path / "count.json"

    _at_once((writers.count_up, path, 100), (writers.count_up, path, 100))

    assert {"count": 200} == files.read_json(path)
    assert {"count.json"} == _content(tmp_path)


def test_two_processes_that_record_the_same_runs_keep_each_once(tmp_path: Path) -> None:
    numbers = list(range(1, 61))

    _at_once((writers.record_runs, tmp_path, numbers), (writers.record_runs, tmp_path, numbers[::-1]))

    (path,) = (tmp_path / "github").glob("*.json")
    assert numbers == [run["run_id"] for run in files.read_document(path)["runs"]]


def test_two_processes_that_capture_the_same_finds_write_each_line_once(tmp_path: Path) -> None:
    numbers = list(range(40))

    _at_once((writers.capture_finds, tmp_path, numbers), (writers.capture_finds, tmp_path, numbers[::-1]))

    text = (tmp_path / "notes" / "2026-03-01.md").read_text()
    assert [1] * 40 == [text.count(f"[Find {number}]") for number in numbers]
    assert 1 == text.count("# 2026-03-01\n")
    assert text.endswith("-->\n")


def test_threads_of_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    path = tmp_path / "count.json"
    threads = [threading.Thread(target=writers.count_up, args=(path, 25)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {"count": 100} == files.read_json(path)


def test_a_change_that_raises_leaves_the_document_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"kept": True})

    def change(document: dict) -> None:
        document["half"] = "done"
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        files.update_document(path, change)

    assert {"kept": True} == files.read_json(path)
    assert {"a.json"} == _content(tmp_path)


def test_a_document_that_did_not_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"kept": True})
    before = path.stat().st_ino

    files.update_document(path, lambda document: document.update(kept=True))

    assert before == path.stat().st_ino


def test_a_write_that_fails_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError, match="directory"):
        files.write_whole(tmp_path / "taken", b"x")

    assert {"taken"} == _content(tmp_path)


def test_a_document_that_is_not_json_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "subscriptions.json"
    path.write_text("[{,]")

    with pytest.raises(PermanentFailure, match=r"subscriptions\.json is not valid JSON"):
        files.update_document(path, lambda document: document.clear())

    assert "[{,]" == path.read_text()


def test_appending_starts_on_a_fresh_line(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text("typed by hand, no newline")

    files.append_whole(path, b"- added\n")

    assert "typed by hand, no newline\n- added\n" == path.read_text()


def test_text_that_is_not_unicode_survives_a_document(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"text": "\ud800 é"})

    assert {"text": "\ud800 é"} == files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize("identity", ["../../etc/passwd", "", "a/b", "\x00", "x" * 5_000, "日本", "\ud800"])
def test_any_identity_becomes_one_safe_file_name(identity: str) -> None:
    name = files.file_name(identity)

    assert Path(name).name == name
    assert len(name) < 90
    assert name != files.file_name(identity + "!")
