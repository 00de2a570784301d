"""The files of a registry as text: how two differ, and how they are put back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joelclaw_tasks.registry_folder import Change, changes_between, read_folder, write_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "a.json").write_text('{"name": "a"}')
    (tmp_path / "resources.json").write_text('{"nas": 2}')
    (tmp_path / "health.schema.json").write_text("{}")
    (tmp_path / "events" / ".hidden.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_the_files_are_those_that_a_registry_is_read_from(folder: Path):
    assert {"resources.json": '{"nas": 2}', "events/a.json": '{"name": "a"}'} == read_folder(folder)


def test_what_is_shipped_is_read_whole():
    files = read_folder(ROOT / "registry")

    assert {"resources.json", "models.json", "health.json", "schedules.json"} < set(files)
    assert len(list((ROOT / "registry" / "events").glob("*.json"))) == len(files) - 4


def test_written_back_the_files_are_as_they_were_and_nothing_else_is_touched(folder: Path):
    before = read_folder(folder)
    (folder / "events" / "b.json").write_text("{}")
    (folder / "resources.json").write_text("{}")
    (folder / "events" / "a.json").unlink()

    write_folder(folder, before)

    assert before == read_folder(folder)
    assert ["a.json"] == [path.name for path in (folder / "events").glob("[a-z]*")]
    assert ("mine", "{}") == ((folder / "notes.txt").read_text(), (folder / "health.schema.json").read_text())


def test_a_change_is_named_by_its_place_with_both_values():
    before = {
        "a.json": json.dumps({"name": "a", "handlers": [{"limit": 2}, {"limit": 3}], "gone": True}),
        "b.json": "{}",
    }
    after = {
        "a.json": json.dumps({"handlers": [{"limit": 2}, {"limit": 4}], "name": "a", "new": []}),
        "c.json": "{}",
    }

    assert [
        Change("a.json", "handlers[1].limit", "3", "4"),
        Change("a.json", "gone", "true", None),
        Change("a.json", "new", None, "[]"),
        Change("b.json", "", "2 characters", None),
        Change("c.json", "", None, "2 characters"),
    ] == changes_between(before, after)
    assert [] == changes_between(before, before)
