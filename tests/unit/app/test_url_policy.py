"""Which URLs and addresses may be fetched."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.app.hostile_urls import HOSTILE_NAMES, HOSTILE_URLS
from vlm_dlm.errors import ImageError
from vlm_dlm_app.media.fetcher import Fetcher, FetchPolicy
from vlm_dlm_app.media.url_policy import Target, follow, is_public, parse_url

BOTH = ("https", "http")
LENIENT = FetchPolicy(allow_http=True, ports=(80, 443, 8080))


def test_there_are_enough_hostile_urls() -> None:
    assert len(set(HOSTILE_URLS)) >= 60


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_hostile_urls_are_refused_by_a_fixed_text(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse_url(url.replace("{port}", "8080"), BOTH, LENIENT.ports)
    message = str(caught.value)
    assert message.startswith("the image URL ")
    assert not re.search(r"127\.|169\.|good|secret|etc|Traceback|0x", message)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://good.example", Target("https", "good.example", 443, "/")),
        ("https://good.example/a/b.png?x=1&y=%20#f", None),
        ("HTTPS://Good.EXAMPLE:443/A", Target("https", "good.example", 443, "/A")),
        ("https://good.example?x=/../", Target("https", "good.example", 443, "/?x=/../")),
        ("https://8.8.8.8/x.png", Target("https", "8.8.8.8", 443, "/x.png")),
        ("https://[2606:4700::0001]/", Target("https", "2606:4700::1", 443, "/")),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
    ],
)
def test_plain_urls_are_taken_apart(url: str, expected: Target | None) -> None:
    expected = expected or Target("https", "good.example", 443, "/a/b.png?x=1&y=%20")
    assert parse_url(url) == expected


def test_http_and_other_ports_only_if_allowed() -> None:
    for url in ("http://good.example/", "https://good.example:80/", "https://good.example:8443/"):
        with pytest.raises(ImageError):
            parse_url(url)
    assert parse_url("http://good.example/", BOTH).port == 80
    with pytest.raises(ImageError, match="port 80"):
        parse_url("http://good.example:443/", BOTH)
    assert parse_url("http://good.example:8080/", BOTH, (8080,)).netloc == "good.example:8080"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x", "https://good.example/x"),
        ("x", "https://good.example/a/x"),
        ("?q", "https://good.example/a/b?q"),
        ("", "https://good.example/a/b"),
        ("//evil.example/x", "https://evil.example/x"),
        ("http://evil.example/x", "http://evil.example/x"),
        ("file:///etc/hostname", "file:///etc/hostname"),
        ("javascript:1", "javascript:1"),
        ("@evil.example/", "https://good.example/a/@evil.example/"),
        ("/\\evil.example", "https://good.example/\\evil.example"),
    ],
)
def test_redirects_name_the_host_they_show(location: str, url: str) -> None:
    assert follow(Target("https", "good.example", 443, "/a/b?c/d"), location) == url


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", [a for answers in HOSTILE_NAMES.values() for a in answers if not a.startswith("9")]
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert is_public(address) == address.startswith("2606:2800:")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_the_same_in_every_wrapping(address: IPv4Address) -> None:
    number = int(address)
    wrapped = (
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x0064_FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
    )
    assert {is_public(str(form)) for form in wrapped} == {is_public(str(address))}
    assert is_public(str(address)) <= address.is_global


@given(st.ip_addresses(v=6))
def test_only_global_unicast_ipv6_is_public(address: IPv6Address) -> None:
    in_range = int(address) >> 125 == 1 or int(address) >> 32 in (0xFFFF, 0x64FF9B << 64)
    assert in_range or not is_public(str(address))


PIECES = st.sampled_from(
    [
        *("good.example", "evil.example", "127.0.0.1", "8.8.8.8", "[::1]", "localhost", "0x7f.1"),
        *(
            "@",
            ":",
            "/",
            "//",
            "\\",
            "?",
            "#",
            "%5c",
            "%40",
            ".",
            "..",
            "80",
            "443",
            "8080",
            "user",
        ),
        *("https:", "http:", "\t", "\r\n", " ", "\0", "。", "ａ", "é", "[", "]", "%", ";", "&"),
    ]
)
AUTHORITIES = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


class Recorder:
    """A resolver and a connector that note what they are asked for, and connect to nothing."""

    def __init__(self) -> None:
        self.resolved: list[str] = []
        self.connected: list[tuple[str, int, str | None]] = []

    async def resolve(self, host: str) -> Sequence[str]:
        self.resolved.append(host)
        return ["93.184.215.14"]

    async def connect(
        self, address: str, port: int, tls_name: str | None
    ) -> tuple[StreamReader, StreamWriter]:
        self.connected.append((address, port, tls_name))
        raise ConnectionRefusedError


@given(AUTHORITIES, st.sampled_from(["https://", "http://", "HTTP://", ""]))
@example("8.8.8.8", "https://")
@example("good.example/@127.0.0.1", "https://")
@example("good.example#@127.0.0.1", "http://")
@example("good.example?@127.0.0.1", "http://")
def test_the_host_that_was_checked_is_the_one_that_is_reached(rest: str, scheme: str) -> None:
    url = scheme + rest
    recorder = Recorder()

    async def run() -> None:
        fetcher = Fetcher(LENIENT, recorder.resolve, recorder.connect)
        with pytest.raises(ImageError):
            await fetcher.fetch(url)

    try:
        target = parse_url(url, LENIENT.schemes, LENIENT.ports)
    except ImageError:
        asyncio.run(run())
        assert (recorder.resolved, recorder.connected) == ([], [])
        return
    asyncio.run(run())
    is_literal = bool(re.fullmatch(r"[0-9.]+|.*:.*", target.host))
    address = target.host if is_literal else "93.184.215.14"
    name = target.host if target.scheme == "https" else None
    assert recorder.resolved == ([] if is_literal else [target.host])
    assert recorder.connected == [(address, target.port, name)]
    # an independent parser sees the same host
    assert urlsplit(url).hostname == target.host
    assert is_public(address)


@given(st.text(max_size=200))
def test_any_text_gives_a_target_or_our_error(text: str) -> None:
    for url in (text, "https://" + text, "https://good.example/" + text):
        try:
            target = parse_url(url)
        except ImageError:
            continue
        assert target.path.startswith("/")
        assert f"{target.host}{target.path}".isascii()
        assert f"{target.host}{target.path}".isprintable()


def test_nothing_else_in_the_server_can_fetch() -> None:
    """One fetcher for all: no second way out without its checks. The other one listed goes to the
    address of the operator's vLLM alone; what a request says is never part of where it goes."""
    others = re.compile(
        r"^\s*(?:import|from) (?:httpx|requests|aiohttp|urllib3|urllib\.request|http\.client)\b"
        r"|^\s*from (?:urllib|http) import (?:request|client)\b"
        r"|\bopen_connection\(|\bcreate_connection\(",
        re.MULTILINE,
    )
    root = Path(__file__).resolve().parents[3]
    files = [*(root / "app").rglob("*.py"), *(root / "vlm_dlm" / "serving").rglob("*.py")]
    assert len(files) > 20
    found = {str(path.relative_to(root)) for path in files if others.search(path.read_text())}
    assert found == {"app/vlm_dlm_app/media/fetcher.py", "vlm_dlm/serving/vllm/client.py"}
