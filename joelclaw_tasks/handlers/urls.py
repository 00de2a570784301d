"""One spelling for every URL, so that the same page is found once."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, quote, urlsplit

import idna

MAX_LENGTH = 8_192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACKING = frozenset(
    {
        *("fbclid", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "msclkid", "yclid", "twclid", "ttclid"),
        *("igshid", "igsh", "mc_cid", "mc_eid", "_hsenc", "_hsmi", "mkt_tok", "oly_anon_id", "oly_enc_id"),
        *("vero_id", "vero_conv", "ref_src", "ref_url", "srsltid", "_ga", "_gl"),
    }
)
_HOST = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normalise(url: str) -> str:
    """The canonical spelling of an http(s) URL; normalising it again changes nothing.

    Scheme and host in lower case, punycode, no default port, no fragment, no tracking parameters, no trailing
    slash, dot segments resolved, parameters sorted by name, percent escapes in one form.
    Raises ValueError, which never quotes the URL (it may hold a secret).
    """
    if len(url) > MAX_LENGTH:
        raise ValueError(f"the URL is longer than {MAX_LENGTH} characters")
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ValueError("the URL is malformed") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(
            f"only http and https URLs can be noted, not {parts.scheme[:20] or 'one without a scheme'}"
        )
    if "@" in parts.netloc:
        raise ValueError("the URL carries a user name or password")
    host = _host(parts)
    place = host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    query = _query(parts.query)
    return f"{parts.scheme}://{place}{_path(parts.path)}" + (f"?{query}" if query else "")


def host_of(url: str) -> str:
    """The host of a normalised URL, without `www.`, for people to read."""
    host = urlsplit(url).hostname or ""
    return host.removeprefix("www.")


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").rstrip(".")
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host)}]"
        except ValueError:
            raise ValueError("the URL has a malformed IPv6 address") from None
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode().rstrip(".")
        except (idna.IDNAError, UnicodeError):
            raise ValueError("the URL has a malformed international host name") from None
    if not _HOST.fullmatch(host):
        raise ValueError("the URL has a malformed host name" if host else "the URL has no host")
    return host


def _escaped(text: str, safe: str) -> str:
    """Percent escapes in one form: upper case, none where none is needed, all where one is."""

    def escape(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%25"
        char = chr(int(match[1], 16))
        return char if char in _UNRESERVED else f"%{match[1].upper()}"

    try:
        return quote(_ESCAPE.sub(escape, text), safe=safe + "%")
    except UnicodeEncodeError:
        raise ValueError("the URL holds a character that is not Unicode text") from None


def _path(path: str) -> str:
    kept: list[str] = []
    for segment in _escaped(path, "/:@!$&'()*+,;=").split("/")[1:]:
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    return ("/" + "/".join(kept)).rstrip("/") or "/"


def _query(query: str) -> str:
    pairs = [part for part in _escaped(query, "/:@!$&'()*+,;=?").split("&") if part]
    kept = [part for part in pairs if not _is_tracking(part.split("=", 1)[0])]
    # By name only: the order of equal names may mean something to the server.
    return "&".join(sorted(kept, key=lambda part: part.split("=", 1)[0]))


def _is_tracking(name: str) -> bool:
    return name.lower().startswith("utm_") or name.lower() in _TRACKING
