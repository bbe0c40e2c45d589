"""Data URIs: exactly their bytes, or a clear refusal in linear time."""

from __future__ import annotations

import base64
import tracemalloc
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_dlm.errors import ImageError
from vlm_dlm_app.media.data_uri import is_data_uri, parse_base64, parse_data_uri

LIMIT = 2**20
MIME_TYPES = ("image/jpeg", "image/png", "image/svg+xml", "text/plain", "application/octet-stream")
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
    letters = "".join((prefix + text).partition(",")[2].split()).rstrip("=")
    for escape, letter in (("%2B", "+"), ("%2F", "/"), ("%3D", "="), ("%20", "")):
        letters = letters.replace(escape, letter).replace(escape.lower(), letter)
    assert base64.urlsafe_b64encode(data).rstrip(b"=")[:-1].decode() in (
        letters.replace("+", "-").replace("/", "_")
    )


SAMPLE = bytes(range(256)) * 3 + b"ends"
PLAIN = base64.b64encode(SAMPLE).decode()


@pytest.mark.parametrize(
    "text",
    [
        "data:;base64," + PLAIN,
        "data:image/jpg;base64," + PLAIN,
        "DATA:IMAGE/PNG;BASE64," + PLAIN,
        "  data:image/png;base64," + PLAIN + "\n",
        "data:image/png;charset=utf-8;base64," + PLAIN,
        "data:image/png;name=a%20b.png;charset=utf-8;base64," + PLAIN,
        "data:image/png; base64," + PLAIN,
        "data:image/png;base64;name=a.png," + PLAIN,
        "data:text/html;base64," + PLAIN,
        PREFIX + " " + PLAIN,
        PREFIX + "\r\n".join(PLAIN[at : at + 8] for at in range(0, len(PLAIN), 8)),
        PREFIX + "\t " + PLAIN,
        PREFIX + PLAIN.rstrip("="),
        PREFIX + PLAIN.rstrip("=") + "====",
        PREFIX + base64.urlsafe_b64encode(SAMPLE).decode(),
        PREFIX + base64.urlsafe_b64encode(SAMPLE).decode().rstrip("="),
        PREFIX + PLAIN.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        PREFIX + PLAIN.replace("+", "%2b").replace("/", "%2f").replace("=", "%3d") + "%0A",
    ],
)
def test_every_way_in_which_clients_write_it(text: str) -> None:
    assert parse_data_uri(text, LIMIT) == SAMPLE


def test_base64_alone_is_taken_where_it_is_a_picture() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + SAMPLE * 20
    plain = base64.b64encode(picture).decode()
    urls = base64.urlsafe_b64encode(picture).decode().rstrip("=")
    for text in (plain, f" {plain}\n", urls, plain.replace("/", "%2F").replace("+", "%2B")):
        assert parse_base64(text, LIMIT) == picture
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0").decode()
    assert parse_base64(jpeg, LIMIT) == b"\xff\xd8\xff\xe0"
    for text in ("", "photo.png", "/etc/passwd", "file:///x", PLAIN, "C:\\a.png", "iVBORé"):
        assert parse_base64(text, LIMIT) is None
    with pytest.raises(ImageError, match="the limit is 100"):
        parse_base64(plain, 100)
    with pytest.raises(ImageError, match="not valid base64"):
        parse_base64(plain + "?", LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:,",
        "image/png;base64,AAAA",
        "data:image/png,AAAA",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,\n\n",
        "data:image/png;base64,A",
        "data:image/png;base64,====",
        "data:image/png;base64,AA==AAAA",
        "data:image/png;base64,AAAAA===",
        "data:image/png;base64,AA%41",
        "data:" + "a" * 2000 + "/png;base64,AAAA",
        "data:image/png;base64,AAé=",
        "data:image/png;base64,AA\0=",
        "http://good.example/x.png",
        "file:///etc/hostname",
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
    assert "line breaks" in refusal(PREFIX + "AAAA" + "\r\n" * 1000)
    assert "line breaks" in refusal(PREFIX + "A \n" * 1000)


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
