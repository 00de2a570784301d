"""Address: where a Redis is. One URL says all, also with sentinels in front of it.

    redis://[user:password@]host[:port][/db]     rediss://… with TLS; ssl_ca_certs=… and others in the query
    unix://[user:password@]/path[?db=0]          the same as Celery's redis+socket:///path?virtual_host=0
    sentinel://[user:password@]host[:port][/db][;sentinel://host2…]?master_name=…

Behind sentinels user and password are those of the servers; the query may hold `sentinel_username`,
`sentinel_password`, and ssl_* options, which turn TLS on for servers and sentinels alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    import redis
    import redis.asyncio

FORMS = "redis://host:port/0, rediss://…, unix://path or sentinel://host:port;sentinel://…?master_name=…"
SENTINEL_PORT = 26379
_SECRET_OPTIONS = ("password", "sentinel_password", "ssl_password")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis is, and how to get in. Not part of a repr: it may hold passwords."""

    url: str = field(repr=False)  # as redis-py reads it; behind sentinels its host and port mean nothing
    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a URL. Raises ValueError, whose text does not hold the URL."""
        if text.startswith("sentinel://"):
            return cls._parse_sentinels(text.split(";"))
        parts = urlsplit(text)
        if parts.port == 0:  # reading it raises ValueError when it is no number, or out of range
            raise ValueError("port 0")
        options = _options(parts.query)
        if parts.scheme == "redis+socket":
            parts = parts._replace(scheme="unix")
            options["db"] = options.pop("virtual_host", "0").lstrip("/")
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("no URL of a Redis")
        return cls(_joined(parts.scheme, parts.netloc, parts.path, urlencode(options)))

    @classmethod
    def _parse_sentinels(cls, texts: list[str]) -> Address:
        parts = [urlsplit(text) for text in texts]
        if any(part.scheme != "sentinel" or not part.hostname for part in parts):
            raise ValueError("no URL of a sentinel")
        options = {name: value for part in parts for name, value in _options(part.query).items()}
        master_name = options.pop("master_name", "")
        if not master_name:
            raise ValueError("a sentinel URL must name its master_name")
        login = {
            name: options.pop(f"sentinel_{name}")
            for name in ("username", "password")
            if f"sentinel_{name}" in options
        }
        tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
        first = parts[0]
        user_info = first.netloc.rpartition("@")[0]
        server = f"{user_info}@by-sentinel" if user_info else "by-sentinel"
        url = _joined("rediss" if tls else "redis", server, first.path, urlencode(options))
        return cls(
            url,
            tuple((str(part.hostname), part.port or SENTINEL_PORT) for part in parts),
            master_name,
            {**login, **({"ssl": True, **_read_tls(tls)} if tls else {})},
        )

    def client(self, **options: Any) -> redis.Redis:
        """A client with a pool of its own; `options` are redis-py's."""
        import redis

        from joelclaw_tasks.master_pool import MasterPool

        if not self.sentinels:
            return redis.Redis.from_url(self.url, **options)
        server = {**self._server_options(), **options}
        pool = MasterPool.behind(self.sentinels, self.master_name, self.sentinel_options, **server)
        return redis.Redis.from_pool(pool)

    def async_client(self, **options: Any) -> redis.asyncio.Redis:
        """The same for asyncio; `retry` must be redis.asyncio's."""
        import redis.asyncio
        import redis.asyncio.sentinel
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        from joelclaw_tasks.master_pool import SENTINEL_ANSWERS_WITHIN_S

        if not self.sentinels:
            return redis.asyncio.Redis.from_url(self.url, **options)
        server = self._server_options()
        server["ssl"] = server.pop("connection_class", None) is not None
        quick = {
            "socket_timeout": SENTINEL_ANSWERS_WITHIN_S,
            "socket_connect_timeout": SENTINEL_ANSWERS_WITHIN_S,
            "retry": Retry(NoBackoff(), 0),
        }
        sentinel: Any = redis.asyncio.sentinel.Sentinel  # redis-py does not type it
        manager = sentinel(list(self.sentinels), sentinel_kwargs={**quick, **self.sentinel_options})
        client: redis.asyncio.Redis = manager.master_for(self.master_name, **{**server, **options})
        return client

    @property
    def place(self) -> str:
        """Where it is, for people: `host:port`, a path, or `master at sentinel`."""
        if self.sentinels:
            host, port = self.sentinels[0]
            return f"{self.master_name} at {host}:{port}"
        parts = urlsplit(self.url)
        return f"{parts.hostname or parts.path}" + (f":{parts.port}" if parts.port else "")

    @property
    def is_on_this_machine(self) -> bool:
        """Whether no network is between us and it, as far as the URL tells."""
        parts = urlsplit(self.url)
        hosts = {host for host, _ in self.sentinels} or {parts.hostname or "localhost"}
        return parts.scheme == "unix" or hosts <= {"127.0.0.1", "localhost", "::1"}

    def celery_settings(self) -> dict[str, Any]:
        """What Celery must be told, to use this Redis as its broker and for its results."""
        parts = urlsplit(self.url)
        if self.sentinels:
            user_info = parts.netloc.rpartition("@")[0]
            at = f"{user_info}@" if user_info else ""
            url = ";".join(
                f"sentinel://{at}{_bracketed(host)}:{port}{parts.path}" for host, port in self.sentinels
            )
            options = {"master_name": self.master_name, "sentinel_kwargs": dict(self.sentinel_options)}
            tls = _read_tls(_options(parts.query)) if parts.scheme == "rediss" else None
            return {
                "broker_url": url,
                "result_backend": url,
                "broker_transport_options": options,
                "result_backend_transport_options": options,
                **({"broker_use_ssl": tls, "redis_backend_use_ssl": tls} if tls else {}),
            }
        if parts.scheme == "unix":
            query = urlencode({"virtual_host": _options(parts.query).get("db", "0")})
            url = _joined("redis+socket", parts.netloc, parts.path, query)
        elif parts.scheme == "rediss":
            query = urlencode({"ssl_cert_reqs": "required", **_options(parts.query)})
            url = _joined(parts.scheme, parts.netloc, parts.path, query)
        else:
            url = self.url
        return {"broker_url": url, "result_backend": url, "broker_transport_options": {}}

    def _server_options(self) -> dict[str, Any]:
        from redis.connection import parse_url

        from joelclaw_tasks.master_pool import MasterTLSConnection

        options: dict[str, Any] = dict(parse_url(self.url))  # type: ignore[no-untyped-call]
        del options["host"]
        if "connection_class" in options:
            options["connection_class"] = MasterTLSConnection
        return options


def without_password(text: str) -> str:
    """The URL as it may be shown: every password is three stars."""
    return ";".join(_hidden(part) for part in text.split(";")) if "sentinel://" in text else _hidden(text)


def _hidden(url: str) -> str:
    if "://" not in url:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{parts.username or ''}:***@{host}")
    if any(name in _SECRET_OPTIONS for name, _ in parse_qsl(parts.query)):
        shown = [
            f"{quote(name)}={'***' if name in _SECRET_OPTIONS else quote(value, safe='/')}"
            for name, value in parse_qsl(parts.query)
        ]
        parts = parts._replace(query="&".join(shown))
    return _joined(parts.scheme, parts.netloc, parts.path, parts.query)


def _joined(scheme: str, netloc: str, path: str, query: str) -> str:
    # urlunsplit leaves out the two slashes of a scheme that it does not know.
    return f"{scheme}://{netloc}{path}" + (f"?{query}" if query else "")


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query))
    if "ssl_cert_reqs" in options:  # Celery's spelling is CERT_REQUIRED, redis-py's required
        options["ssl_cert_reqs"] = options["ssl_cert_reqs"].removeprefix("CERT_").lower()
    return options


def _read_tls(options: dict[str, str]) -> dict[str, Any]:
    tls: dict[str, Any] = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() not in ("0", "false", "no")
    return {"ssl_cert_reqs": "required", **tls}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else unquote(host)
