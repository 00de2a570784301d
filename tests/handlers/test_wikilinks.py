"""Wiki links: which text is a link, where it leads, and that no text can break the reader."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.handlers.adr_index import index_rows
from joelclaw_tasks.handlers.frontmatter import read_page
from joelclaw_tasks.handlers.prose import headings, without_code
from joelclaw_tasks.handlers.vault import Vault
from joelclaw_tasks.handlers.wikilinks import WikiLink, check_links, resolve, wiki_links


@pytest.fixture
def vault(tmp_path: Path) -> Callable[..., Vault]:
    def vault(*paths: str, **texts: str) -> Vault:
        for path in (*paths, *texts):
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts.get(path, ""))
        return Vault.scan(tmp_path)

    return vault


def _links(text: str) -> list[tuple[str, str | None, str | None]]:
    return [(link.target, link.heading, link.alias) for link in wiki_links(without_code(text))]


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[[a]]", [("a", None, None)]),
        ("[[ a b ]]", [("a b", None, None)]),
        ("[[a|shown]]", [("a", None, "shown")]),
        ("| [[a\\|shown]] |", [("a", None, "shown")]),
        ("[[a#Part one]]", [("a", "Part one", None)]),
        ("[[a#Part|shown]] [[#Here]]", [("a", "Part", "shown"), ("", "Here", None)]),
        ("![[picture.png]]", [("picture.png", None, None)]),
        ("[[toc:]] [[adr:0012]] [[a]]", [("a", None, None)]),
        ("\\[[a]] [[]] [[ ]] [[|x]] [[a\nb]] [a] [ [a] ]", []),
        ("`[[a]]` ``x ` [[b]]`` [[c]]", [("c", None, None)]),
        ("\\`[[a]]`", [("a", None, None)]),
        ("one ` tick\n\n[[a]] and ` another", [("a", None, None)]),
        ("`code\n[[a]]`", []),
        ("```\n[[a]]\n```\n[[b]]", [("b", None, None)]),
        ("````md\n```\n[[a]]\n```\n````\n[[b]]", [("b", None, None)]),
        ("~~~\n[[a]]\n```\n[[b]]\n~~~\n[[c]]", [("c", None, None)]),
        ("```\n[[a]] never closed", []),
        ("> ```\n> [[a]]\n> ```\n> [[b]]", [("b", None, None)]),
        ("- ```\n  [[a]]\n  ```\n- [[b]]", [("b", None, None)]),
        ("text\n\n    [[a]]\n\t[[b]]\n\n[[c]]", [("c", None, None)]),
        ("- entry\n\n    [[a]]\n", [("a", None, None)]),
        ("text\n    [[a]]", [("a", None, None)]),
        ("<!-- [[a]]\n[[b]] --> [[c]]", [("c", None, None)]),
        ("`<!--` opens a comment, [[a]] is none", [("a", None, None)]),
    ],
)
def test_links_are_found_outside_of_code(text: str, links: list[tuple[str, str | None, str | None]]) -> None:
    assert links == _links(text)


def test_a_link_knows_its_line() -> None:
    assert [WikiLink("a", None, None, 3), WikiLink("b", None, None, 3), WikiLink("c", None, None, 6)] == list(
        wiki_links(without_code("x\n`y`\n[[a]] [[b]]\n```\n```\n[[c]]"))
    )


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("unique", ["x/unique.md"]),
        ("UNIQUE", ["x/unique.md"]),
        ("unique.md", ["x/unique.md"]),
        ("x/unique", ["x/unique.md"]),
        ("twice", ["x/twice.md", "y/twice.md"]),
        ("x/twice", ["x/twice.md"]),
        ("./twice", ["x/twice.md"]),
        ("../y/twice", ["y/twice.md"]),
        ("top", ["top.md"]),
        ("/top", ["top.md"]),
        ("deep/x/unique", []),
        ("nique", []),
        ("picture.png", ["y/picture.png"]),
        ("picture", []),
        ("café", ["café.md"]),
        ("cafe\u0301", ["café.md"]),
        ("hidden", []),
        ("../../etc/passwd", []),
        (".", []),
        ("/", []),
    ],
)
def test_where_a_target_leads(vault: Callable[..., Vault], target: str, leads_to: list[str]) -> None:
    files = vault(
        "x/unique.md", "x/twice.md", "y/twice.md", "top.md", "y/top.md", "y/picture.png", "café.md",
        ".git/hidden.md", "x/source.md",
    )  # fmt: skip

    assert leads_to == [str(path) for path in resolve(target, PurePosixPath("x/source.md"), files)]


def test_broken_and_ambiguous_links_are_errors_and_lost_headings_warnings(
    vault: Callable[..., Vault],
) -> None:
    target = "---\nx: 1\n---\n# Part One!\n\nSub\n---\n```\n# code\n```\n"
    files = vault("x/twice.md", "y/twice.md", **{"a.md": target})
    good = "[[a#part one]] [[a#Sub]] [[a#Part One#Sub]] [[#self]] [[a#^block]]"
    body = f"# Self\n[[gone]]\n[[twice]]\n{good}\n[[a#code]]\n[[#none]]"

    findings = list(check_links(body, PurePosixPath("s.md"), files))

    assert [
        ("link.broken", 2, "error"), ("link.ambiguous", 3, "error"), ("link.heading", 5, "warning"),
        ("link.heading", 6, "warning"),
    ] == [(finding.rule, finding.line, finding.severity) for finding in findings]  # fmt: skip
    assert "x/twice.md, y/twice.md" in findings[1].message


def test_headings_keep_their_inline_code() -> None:
    assert ["The `claim` verb", "Two", "Under"] == headings(
        "# The `claim` verb #\n## Two ##\n#\nUnder\n=====\n"
    )


_MARKDOWN = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                *"[]|#`~\\\n>- :\r\t",
                "[[",
                "]]",
                "```",
                "~~~",
                "---\n",
                "<!--",
                "-->",
                "    ",
                "a",
                "\n\n",
                "x: y\n",
                "\x00",
            ]
        ),
        max_size=60,
    ).map("".join),
)


@given(_MARKDOWN)
def test_any_text_is_read_without_an_error_and_keeps_its_lines(text: str) -> None:
    page = read_page(text)
    prose = without_code(page.body)

    assert text.count("\n") >= page.body.count("\n") == prose.count("\n")
    for link in wiki_links(prose):
        assert 1 <= link.line <= text.count("\n") + 1
    headings(page.body)
    index_rows(text)
    list(check_links(page.body, PurePosixPath("a.md"), Vault(Path("/nonexistent"), (), {})))


@pytest.mark.parametrize(
    "piece",
    [
        "[[",
        "[[a",
        "`",
        "`a``b```",
        "# ",
        "# #",
        " ",
        "<!--",
        "\\`",
        "\n#\t ",
        "a\n-",
        "|-",
        "[[1234-",
        "](",
        "~~~\n",
        "> ",
    ],
)
def test_hostile_megabytes_are_read_in_seconds(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.monotonic()

    page = read_page(text)
    list(wiki_links(without_code(page.body)))
    headings(page.body)
    index_rows(text)

    assert time.monotonic() - started < 10
