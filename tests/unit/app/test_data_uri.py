"""Data URIs: exactly their bytes, or a clear refusal in linear time."""

from __future__ import annotations

import base64
import tracemalloc
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm.errors import ImageError
from vlm_dlm_app.media.data_uri import MIME_TYPES, is_data_uri, parse_data_uri

LIMIT = 2**20
PREFIX = "data:image/png;base64,"


def refusal(text: str, limit: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        parse_data_uri(text, limit)
    return str(caught.value)


@given(st.binary(min_size=1, max_size=300), st.sampled_from(MIME_TYPES))
def test_bytes_survive(data: bytes, mime: str) -> None:
    payload = base64.b64encode(data).decode()
    assert parse_data_uri(f"data:{mime};base64,{payload}", LIMIT) == data
    assert parse_data_uri(f"DATA:{mime.upper()};BASE64,{payload}", LIMIT) == data


@given(st.binary(min_size=1, max_size=2000), st.sampled_from(["\n", "\r\n"]))
def test_the_usual_line_breaks_are_taken(data: bytes, line_break: str) -> None:
    payload = base64.encodebytes(data).decode().replace("\n", line_break)
    assert parse_data_uri(PREFIX + payload, LIMIT) == data


@given(st.text(max_size=60), st.sampled_from(["", "data:", "data:image/png", PREFIX, "d"]))
def test_any_text_gives_bytes_or_our_error(text: str, prefix: str) -> None:
    try:
        data = parse_data_uri(prefix + text, LIMIT)
    except ImageError:
        return
    payload = (prefix + text).partition(",")[2].replace("\n", "").replace("\r", "")
    assert base64.b64decode(payload, validate=True) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:,",
        "image/png;base64,AAAA",
        " data:image/png;base64,AAAA",
        "data:;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64",
        "data:image/png;base64;base64,AAAA",
        "data:image/png;charset=utf-8;base64,AAAA",
        "data:image/png; base64,AAAA",
        "data:image/svg+xml;base64,AAAA",
        "data:image/*;base64,AAAA",
        "data:text/html;base64,AAAA",
        "data:application/octet-stream;base64,AAAA",
        "data:image/png;base64,",
        "data:image/png;base64,\n\n",
        "data:image/png;base64,A",
        "data:image/png;base64,AA",
        "data:image/png;base64,AA=",
        "data:image/png;base64,====",
        "data:image/png;base64,AAAA====",
        "data:image/png;base64,AA==AAAA",
        "data:image/png;base64,AAAAA===",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,AA%3D%3D",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAé=",
        "data:image/png;base64,AA\0=",
        "http://good.example/x.png",
        "file:///etc/hostname",
        "data:" + "a" * 100 + "/png;base64,AAAA",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    message = refusal(text)
    assert "image" in message
    assert "Incorrect padding" not in message


def test_the_limit_is_exact_and_holds_before_decoding() -> None:
    for num_bytes in range(1, 9):
        text = PREFIX + base64.b64encode(bytes(num_bytes)).decode()
        assert parse_data_uri(text, num_bytes) == bytes(num_bytes)
        said = f"{num_bytes} bytes; the limit is {num_bytes - 1}"
        assert said in refusal(text, num_bytes - 1)
    text = PREFIX + "A" * 16_000_000
    tracemalloc.start()
    refusal(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_body_of_line_breaks_is_refused() -> None:
    payload = "\n".join("A" * 4 for _ in range(1000))
    assert "line breaks" in refusal(PREFIX + payload)
    assert "line breaks" in refusal(PREFIX + "AAAA" + "\r\n" * 1000)


@pytest.mark.parametrize(
    "text",
    [
        "data:" + ";" * 1_000_000,
        "data:" + ";" * 1_000_000 + ",AAAA",
        "data:image/png" + ";a=b" * 250_000 + ";base64,AAAA",
        PREFIX + "=" * 1_000_000,
        PREFIX + "\n" * 1_000_000,
        PREFIX + "A\r\n" * 300_000,
    ],
)
def test_odd_megabytes_are_refused_at_once(text: str) -> None:
    start_s = perf_counter()
    refusal(text)
    assert perf_counter() - start_s < 1.0


def test_a_data_uri_is_told_from_a_url() -> None:
    assert is_data_uri("DATA:x")
    assert not is_data_uri("https://data:80/")
