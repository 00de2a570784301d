"""What the documents list is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kombu.transport import redis as stock

from docs.tables import DOCS, TABLES, written
from joelclaw_tasks.broker.transport import Channel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("page", "marker"), TABLES)
def test_a_generated_table_is_what_the_code_says_now(page, marker):
    assert TABLES[page, marker]() == written(page, marker), "run `python -m docs.tables`"


def test_the_transport_options_are_listed_with_their_defaults():
    text = (DOCS / "adopting.md").read_text()
    section = text.partition("## Transport options")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.MULTILINE))

    added = [
        name for name in Channel.from_transport_options if name not in stock.Channel.from_transport_options
    ]
    assert {name: getattr(Channel, name) for name in added} == {
        name: eval(default) for name, default in listed.items()
    }


def test_every_page_is_reached_from_the_index():
    index = (DOCS / "index.md").read_text()

    pages = sorted(path.name for path in DOCS.glob("*.md") if path.name != "index.md")

    assert [] == [page for page in pages if f"]({page})" not in index]


def test_every_decision_is_in_the_list_of_decisions():
    folder = DOCS / "decisions"
    listed = (folder / "README.md").read_text()

    assert [] == [path.name for path in folder.glob("0*.md") if f"({path.name})" not in listed]


def test_our_own_decisions_pass_the_check_that_content_updated_makes(tmp_path):
    from joelclaw_tasks.core.event import Event
    from joelclaw_tasks.handlers.content import validate
    from joelclaw_tasks.handlers.validation import Validation

    class Deps:
        data_dir = tmp_path
        validation = Validation()

        @staticmethod
        def notify(*args, **kwargs):
            raise AssertionError(args)

    folder = tmp_path / "content" / "decisions"
    folder.mkdir(parents=True)
    for path in (DOCS / "decisions").glob("*.md"):
        (folder / path.name).write_text(path.read_text())

    for path in sorted(folder.iterdir()):
        event = Event("1", "content/updated", "test", {"path": f"decisions/{path.name}"}, at_ms=0)
        assert [] == validate(event, Deps)["findings"]


def test_the_readme_names_only_make_targets_that_exist():
    named = set(re.findall(r"^(?:QUICK=1 )?make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert named >= {"up", "demo", "test", "check", "bench"}
    assert named <= targets
