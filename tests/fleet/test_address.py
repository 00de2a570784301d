"""One URL says where Redis is: what redis-py, Celery and people are told from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from joelclaw_tasks.address import Address, without_password
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.settings import Settings
from tests.conftest import free_port, start_redis

SENTINELS = (
    "sentinel://ann:p%40ss@s1:26380/3;sentinel://s2?master_name=jc&sentinel_password=hush"
    "&ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=CERT_REQUIRED"
)


def test_a_sentinel_url_names_every_sentinel_and_the_master():
    address = Address.parse(SENTINELS)
    assert (("s1", 26380), ("s2", 26379)) == address.sentinels
    assert "jc" == address.master_name
    assert "jc at s1:26380" == address.place
    tls = {"ssl_ca_certs": "/etc/ca.pem", "ssl_cert_reqs": "required"}
    assert {"password": "hush", "ssl": True, **tls} == address.sentinel_options
    assert "hush" not in repr(address)
    assert "p%40ss" not in repr(address)
    kwargs = address.client().connection_pool.connection_kwargs
    assert ("ann", "p@ss", 3, "/etc/ca.pem") == (
        kwargs["username"], kwargs["password"], kwargs["db"], kwargs["ssl_ca_certs"]
    )  # fmt: skip


def test_celery_is_told_of_sentinels_and_tls_in_its_own_words():
    settings = Address.parse(SENTINELS).celery_settings()
    expected = "sentinel://ann:p%40ss@s1:26380/3;sentinel://ann:p%40ss@s2:26379/3"
    assert expected == settings["broker_url"] == settings["result_backend"]
    assert "jc" == settings["broker_transport_options"]["master_name"]
    assert settings["broker_transport_options"] == settings["result_backend_transport_options"]
    assert "required" == settings["broker_use_ssl"]["ssl_cert_reqs"]
    assert settings["broker_use_ssl"] == settings["redis_backend_use_ssl"]


@pytest.mark.parametrize(
    ("url", "broker_url"),
    [
        ("redis://h:1/2", "redis://h:1/2"),
        ("rediss://h:1/2", "rediss://h:1/2?ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h?ssl_cert_reqs=none"),
        ("unix:///run/r.sock?db=4", "redis+socket:///run/r.sock?virtual_host=4"),
        ("unix://u:p@/run/r.sock", "redis+socket://u:p@/run/r.sock?virtual_host=0"),
        ("redis+socket:///run/r.sock?virtual_host=4", "redis+socket:///run/r.sock?virtual_host=4"),
    ],
)
def test_celery_is_given_the_url_in_the_form_that_it_knows(url: str, broker_url: str):
    assert broker_url == Address.parse(url).celery_settings()["broker_url"]


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://s1:26379",
        "sentinel://s1;redis://s2?master_name=m",
        "sentinel://?master_name=m",
        "sentinel://s1:x?master_name=m",
        "http://h",
        "redis://h:99999",
        "redis://h:0",
        "",
    ],
)
def test_what_names_no_redis_is_refused_without_showing_it(url: str):
    with pytest.raises(ValueError):
        Address.parse(url)
    if url:
        with pytest.raises(SettingsError, match="REDIS_URL must be") as refused:
            Settings.load({"REDIS_URL": url})
        assert url not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "sentinel://:pw@s1:1/0;sentinel://u:pw@s2?master_name=m&sentinel_password=pw",
            "sentinel://:***@s1:1/0;sentinel://u:***@s2?master_name=m&sentinel_password=***",
        ),
        ("rediss://h?ssl_password=pw&ssl_keyfile=/k", "rediss://h?ssl_password=***&ssl_keyfile=/k"),
        ("unix://:pw@/run/r.sock", "unix://:***@/run/r.sock"),
        ("redis://h:1/0", "redis://h:1/0"),
    ],
)
def test_no_password_is_shown(url: str, shown: str):
    assert shown == without_password(url)


def test_a_redis_behind_a_unix_socket_answers_under_both_spellings(tmp_path: Path):
    socket = tmp_path / "r.sock"
    server = start_redis(tmp_path, free_port(), "--unixsocket", str(socket))
    try:
        for url in (f"unix://{socket}?db=2", f"redis+socket://{socket}?virtual_host=2"):
            client: redis.Redis = Address.parse(url).client()
            assert client.incr("asked")
            assert 2 == client.connection_pool.connection_kwargs["db"]
            client.close()
    finally:
        server.terminate()
        server.wait(10)
