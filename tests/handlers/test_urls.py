"""One spelling for every URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.handlers.urls import normalise


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("HTTPS://Example.COM", "https://example.com/"),
        ("https://example.com:443/a/", "https://example.com/a"),
        ("http://example.com:80", "http://example.com/"),
        ("http://example.com:443/", "http://example.com:443/"),
        ("https://example.com/a#part", "https://example.com/a"),
        (
            "https://example.com/?utm_source=x&b=2&UTM_Medium=y&a=1&fbclid=z&gclid=q",
            "https://example.com/?a=1&b=2",
        ),
        ("https://example.com/?a=2&a=1", "https://example.com/?a=2&a=1"),
        ("https://example.com/?", "https://example.com/"),
        ("https://example.com/a/./b/../c", "https://example.com/a/c"),
        ("https://example.com/%7euser/%c3%a9", "https://example.com/~user/%C3%A9"),
        ("https://example.com/é?q=ü", "https://example.com/%C3%A9?q=%C3%BC"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://example.com./", "https://example.com/"),
        ("  https://exa\nmple.com/ ", "https://example.com/"),
        ("http://[2001:DB8::0:1]:80/", "http://[2001:db8::1]/"),
        ("https://a_b.example.com/x", "https://a_b.example.com/x"),
    ],
)
def test_spellings_of_one_page_become_one(written: str, normal: str) -> None:
    assert normal == normalise(written)


@pytest.mark.parametrize(
    "written",
    [
        "", "example.com", "ftp://example.com/", "javascript:alert(1)", "file:///etc/passwd", "https://", "https:///path",
        "https://user:secret@example.com/", "https://good.example\\@evil.example/", "https://exa mple.com/",
        "https://example.com:99999/", "https://example.com:x/", "http://[::1", "http://[zz]/", "https://-/",
        "https://example.com/\ud800", "https://" + "a" * 300 + ".com/", "https://example.com/" + "a" * 9_000,
        "https://\u200b/", "https://xn--\u00e9/",
    ],
)  # fmt: skip
def test_what_is_no_web_page_is_refused_without_being_quoted(written: str) -> None:
    with pytest.raises(ValueError, match=r"URL") as refusal:
        normalise(written)

    assert "secret" not in str(refusal.value)


_PIECES = st.lists(
    st.sampled_from(
        [
            *"/.?&=#%:@+;~ \\é日\u202e'<>|[]{}^`\"!$()*,-_",
            "..",
            "%2e",
            "%2F",
            "%25",
            "%4",
            "%zz",
            "a",
            "B",
            "utm_x=1",
            "//",
        ]
    ),
    max_size=25,
).map("".join)


@given(st.one_of(_PIECES.map("https://Example.com/".__add__), st.text().map("http://h".__add__), st.text()))
def test_normalising_twice_changes_nothing_and_nothing_but_a_value_error_is_raised(written: str) -> None:
    try:
        once = normalise(written)
    except ValueError:
        return

    assert once == normalise(once)
    assert once.isascii()
    assert once.isprintable()
    assert not set(' <>"#\\`') & set(once)


@given(_PIECES)
def test_tracking_parameters_never_matter(query: str) -> None:
    query = query.replace("#", "").rstrip()

    assert normalise(f"https://example.com/?{query}") == normalise(
        f"https://example.com/?{query}&utm_source=feed"
    )
