"""From a noted URL to one line in the day's note."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers import markdown
from joelclaw_tasks.handlers.discovery import capture, note
from joelclaw_tasks.handlers.fields import one_line
from joelclaw_tasks.handlers.world import World
from tests.handlers.conftest import NOON_MS, Recorder

Make = Callable[..., Event]
DAY_MS = 86_400_000


def _finds(data_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((data_dir / "discoveries").glob("*.json"))]


def _notes(data_dir: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((data_dir / "notes").glob("*.md"))}


def test_a_find_is_stored_and_passed_on_under_an_id_of_its_url(
    world: World, event: Make, recorder: Recorder
) -> None:
    result = note(
        event(
            "discovery/noted",
            {"url": "https://Example.com/a/?utm_source=x", "title": "A page", "context": "why"},
        ),
        world,
    )

    (find,) = _finds(world.data_dir)
    assert ("https://example.com/a", "A page", "why") == (find["url"], find["title"], find["context"])
    (emitted,) = recorder.emitted
    assert "discovery/captured" == emitted["name"]
    assert f"discovery:{result['find_id']}" == emitted["id"]
    assert {"findId", "vaultPath", "topic", "slug", "url", "title", "context"} == set(emitted["data"])


def test_spellings_of_one_url_are_one_find(world: World, event: Make, recorder: Recorder) -> None:
    first = note(event("discovery/noted", {"url": "https://example.com/a"}, id="e-1"), world)
    second = note(
        event("discovery/noted", {"url": "HTTPS://EXAMPLE.com:443/a/#x", "title": "Late"}, id="e-2"), world
    )

    assert (False, True) == (first["duplicate"], second["duplicate"])
    (find,) = _finds(world.data_dir)
    assert ("Late", ["e-1", "e-2"]) == (find["title"], find["events"])
    assert 1 == len({emitted["id"] for emitted in recorder.emitted})


def test_a_crash_between_storing_and_emitting_loses_nothing(
    world: World, event: Make, recorder: Recorder
) -> None:
    noted = event("discovery/noted", {"url": "https://example.com/a"})
    recorder.fail_after = 0
    with pytest.raises(ConnectionError):
        note(noted, world)
    recorder.fail_after = None

    result = note(noted, world)

    assert (False, True) == (result["duplicate"], result["emitted"])
    assert 1 == len(recorder.emitted)


def test_a_find_that_is_written_down_is_not_passed_on_again(
    world: World, event: Make, recorder: Recorder
) -> None:
    noted = event("discovery/noted", {"url": "https://example.com/a"})
    note(noted, world)
    capture(event("discovery/captured", recorder.emitted[0]["data"]), world)

    assert not note(noted, world)["emitted"]
    assert 1 == len(recorder.emitted)


def test_a_thought_without_a_link_is_a_find_too(world: World, event: Make, recorder: Recorder) -> None:
    note(event("discovery/noted", {"context": "queues are\nlanes"}), world)
    capture(event("discovery/captured", recorder.emitted[0]["data"]), world)

    assert "- 12:00 queues are lanes <!-- find:" in _notes(world.data_dir)["2026-03-01.md"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"url": None},
        {"url": 5},
        {"url": ""},
        {"url": "ftp://example.com/"},
        {"url": "javascript:alert(1)"},
        {"url": "https://u:secret@example.com/"},
        {"url": "https://example.com/", "title": ["x"]},
        {"context": " "},
    ],
)
def test_what_cannot_be_a_find_is_refused_and_nothing_is_kept(
    world: World, event: Make, recorder: Recorder, data: dict[str, Any]
) -> None:
    with pytest.raises(PermanentFailure, match=r"data\.") as refusal:
        note(event("discovery/noted", data), world)

    assert "secret" not in str(refusal.value)
    assert [] == recorder.emitted
    assert [] == list(world.data_dir.rglob("*.json"))


def test_the_days_note_starts_with_frontmatter_and_takes_one_line_a_find(world: World, event: Make) -> None:
    capture(
        event("discovery/captured", {"url": "https://www.example.com/a", "title": "A", "context": "why"}),
        world,
    )
    capture(event("discovery/captured", {"url": "https://example.com/b"}), world)

    text = _notes(world.data_dir)["2026-03-01.md"]
    lines = re.sub(r"find:\S+", "find:…", text).splitlines()
    assert [
        "---", "date: 2026-03-01", "type: daily-note", "---", "", "# 2026-03-01", "",
        "- 12:00 [A](<https://www.example.com/a>) (example.com): why <!-- find:… -->",
        r"- 12:00 [https:\//example.com/b](<https://example.com/b>) (example.com) <!-- find:… -->",
    ] == lines  # fmt: skip


def test_capturing_again_even_on_another_day_appends_nothing(world: World, event: Make) -> None:
    data = {"url": "https://example.com/a", "title": "A"}
    first = capture(event("discovery/captured", data), world)
    before = _notes(world.data_dir)

    again = capture(event("discovery/captured", data, at_ms=NOON_MS + DAY_MS), world)

    assert first | {"appended": False} == again
    assert before == _notes(world.data_dir)


def test_a_crash_after_the_append_does_not_append_twice(world: World, event: Make) -> None:
    captured = event("discovery/captured", {"url": "https://example.com/a", "title": "A"})
    capture(captured, world)
    (find_path,) = (world.data_dir / "discoveries").glob("*.json")
    find_path.unlink()
    before = _notes(world.data_dir)

    assert not capture(captured, world)["appended"]
    assert before == _notes(world.data_dir)


def test_a_line_torn_by_a_crash_is_written_anew_on_a_line_of_its_own(world: World, event: Make) -> None:
    (world.data_dir / "notes").mkdir()
    (world.data_dir / "notes" / "2026-03-01.md").write_text("# mine\n\n- 12:00 [A](<https://exa")

    capture(event("discovery/captured", {"url": "https://example.com/a", "title": "A"}), world)

    lines = _notes(world.data_dir)["2026-03-01.md"].splitlines()
    assert ["# mine", "", "- 12:00 [A](<https://exa"] == lines[:3]
    assert lines[3].startswith("- 12:00 [A](<https://example.com/a>)")


def test_a_title_cannot_forge_the_marker_of_another_find(world: World, event: Make) -> None:
    capture(event("discovery/captured", {"url": "https://example.com/b", "title": "B"}), world)
    marker = re.search(r"<!-- find:\S+ -->", _notes(world.data_dir)["2026-03-01.md"])[0]
    (world.data_dir / "notes" / "2026-03-01.md").unlink()
    for path in (world.data_dir / "discoveries").glob("*.json"):
        path.unlink()
    capture(event("discovery/captured", {"url": "https://example.com/a", "title": f"A {marker}"}), world)

    assert capture(event("discovery/captured", {"url": "https://example.com/b", "title": "B"}), world)[
        "appended"
    ]


def test_a_captured_event_of_another_service_is_written_down_by_its_slug(world: World, event: Make) -> None:
    data = {"vaultPath": "Resources/x.md", "topic": "tools", "slug": "a-tool"}

    assert capture(event("discovery/captured", data), world)["appended"]
    with pytest.raises(PermanentFailure, match="slug"):
        capture(event("discovery/captured", {"topic": "tools"}), world)


_HOSTILE = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            [
                "[",
                "]",
                "(",
                ")",
                "<",
                ">",
                "!",
                "`",
                "``",
                "*",
                "_",
                "\\",
                "\n",
                "\n\n# ",
                "[[x]]",
                "![a](b)",
                "<!--",
                "-->",
                "<script>",
                "&lt;",
                "&amp;",
                "&#60;",
                "|",
                "~~",
                "---",
                "==",
                "%%",
                "$",
                "a",
                " ",
                "https://e.com",
                "www.e.com",
                "](<https://evil.example>)",
                "- ",
                "1. ",
                "> ",
                "\u2028",
                "\r",
                "\x00",
                "e@e.com",
                "#tag",
                "^id",
            ]
        ),
        max_size=20,
    ).map("".join),
)


@given(title=_HOSTILE, context=_HOSTILE)
def test_whatever_a_title_says_the_line_is_one_list_entry_with_one_link(title: str, context: str) -> None:
    link = markdown.link(title, "https://example.com/?a=1&copy;=2")
    line = f"- 12:00 {link}: {markdown.escaped(context)} <!-- m -->\n"

    tokens = MarkdownIt("commonmark").parse(f"{line}- next\n")

    kinds = [token.type for token in tokens if token.type.endswith("_open")]
    assert ["bullet_list_open", *["list_item_open", "paragraph_open"] * 2] == kinds
    inline = next(token for token in tokens if token.type == "inline").children or []
    assert {"text", "link_open", "link_close", "html_inline"} >= {token.type for token in inline}
    (target,) = [token.attrs["href"] for token in inline if token.type == "link_open"]
    assert "https://example.com/?a=1&copy;=2" == target
    assert ["<!-- m -->"] == [token.content for token in inline if token.type == "html_inline"]
    shown = "".join(token.content for token in inline if token.type == "text")
    assert f"12:00 {one_line(title, 200)}: {one_line(context)} ".rstrip() == shown.rstrip()
