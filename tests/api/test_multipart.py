"""Forms: what is read, what is refused, and that no form costs more than its size."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import process_time
from typing import Any

import httpx
import pytest

from tests.api.modes import ScriptedModes, running
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.http.multipart import (
    FIND_BYTES,
    MAX_HEADER_BYTES,
    MAX_PART_HEADERS,
    MAX_PARTS,
    Form,
    FormShape,
    parse_form,
)
from vlm_dlm_app.settings.model import Settings

TYPE = "multipart/form-data; boundary=b"
SHAPE = FormShape(
    files=frozenset({"image"}),
    texts=frozenset({"prompt", "modes"}),
    repeatable=frozenset({"image", "modes"}),
    max_file_bytes=1000,
    max_text_bytes=100,
)


def part(head: str, content: bytes = b"x") -> bytes:
    return (
        b"--b\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    )


def read(*parts: bytes, end: bytes = b"--b--\r\n", content_type: str = TYPE) -> Form:
    return parse_form(content_type, b"".join(parts) + end, SHAPE)


def refusal(*parts: bytes, end: bytes = b"--b--\r\n", content_type: str = TYPE) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*parts, end=end, content_type=content_type)
    return caught.value


def test_a_form_as_a_real_client_writes_it() -> None:
    request = httpx.Request(
        "POST",
        "http://x/",
        data={"prompt": "Grün?\r\n--b", "modes": ["ar", "diffusion"]},
        files=[("image", ("a.png", b"\r\n--\x00\r\n")), ("image", ("b.png", b""))],
    )
    form = parse_form(request.headers["content-type"], request.read(), SHAPE)
    assert form.files == {"image": [b"\r\n--\x00\r\n", b""]}
    assert form.texts == {"prompt": ["Grün?\r\n--b"], "modes": ["ar", "diffusion"]}


def test_nothing_depends_on_a_file_name() -> None:
    names = ["../../etc/passwd", "a\0b", "\u202egnp.exe", "n" * 4096, "", "x; name=prompt"]
    for name in names:
        form = read(part(f'name="image"; filename="{name}"'))
        assert form.files == {"image": [b"x"]}


@pytest.mark.parametrize("offset", range(-3, 12))
def test_a_boundary_is_found_wherever_a_large_body_is_cut_for_the_search(offset: int) -> None:
    num_around = len(part('name="image"; filename="a"', b""))
    content = b"x" * (FIND_BYTES - num_around + offset)
    shape = replace(SHAPE, max_file_bytes=len(content))
    sent = part('name="image"; filename="a"', content) + part('name="prompt"') + b"--b--"
    form = parse_form(TYPE, sent, shape)
    assert (form.files, form.texts) == ({"image": [content]}, {"prompt": ["x"]})


class Searched(bytes):
    """Notes how much each search may go through."""

    def __init__(self, _: bytes) -> None:
        self.sizes: list[int] = []

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        self.sizes.append((len(self) if end is None else end) - start)
        return super().find(sub, start, end)


def test_no_search_keeps_other_threads_from_running_for_long() -> None:
    body = Searched(part('name="prompt"', b"\r\n--" * 2**20) + b"--b--")
    with pytest.raises(ApiError, match="the limit is 100"):
        parse_form(TYPE, body, SHAPE)
    assert max(body.sizes) <= FIND_BYTES + 10


def test_no_parts_and_what_follows_the_last_boundary() -> None:
    assert read() == Form()
    assert read(part('name="prompt"'), end=b"--b--\r\nsomething else").texts == {"prompt": ["x"]}


@pytest.mark.parametrize(
    ("parts", "end", "says"),
    [
        ((b"preamble\r\n",), b"--b--", "begin with its boundary"),
        ((part('name="prompt"'),), b"", "ends before its last boundary"),
        ((b"",), b"", "begin with its boundary"),
        ((part('name="prompt"'),), b"--b \r\n--b--", "something else than a line break"),
        ((b"--b\r\nContent-Disposition: form-data; name=prompt\r\n",), b"--b--", "no content"),
        ((b"--b\r\n\r\nx\r\n",), b"--b--", "no content"),
        ((b"--b\r\n\r\n\r\n\r\nx\r\n",), b"--b--", "malformed or repeated header"),
        ((b"--b\r\nX: 1\r\n\r\nx\r\n",), b"--b--", "does not name its field"),
        ((part('filename="a.png"'),), b"--b--", "does not name its field"),
        ((part('name="prompt"\r\nContent-Disposition: form-data'),), b"--b--", "repeated header"),
        ((part('name="prompt"\r\nno colon'),), b"--b--", "malformed"),
        ((part('name="prompt"\r\nContent-Transfer-Encoding: base64'),), b"--b--", "encoded"),
    ],
)
def test_what_is_no_form_is_400(parts: tuple[bytes, ...], end: bytes, says: str) -> None:
    error = refusal(*parts, end=end)
    assert (error.status, error.code) == (400, "bad_form")
    assert says in error.message


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'-' * 71}", "; BOUNDARY"])
def test_a_form_without_a_usable_boundary_is_400(boundary: str) -> None:
    assert refusal(content_type=f"multipart/form-data{boundary}").status == 400


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ('name="promt"', "promt is not known here"),
        (f'name="{"p" * 3000}"', "is not known here"),
        ('name="prompt"; filename="a.txt"', "prompt must be text, not a file"),
        ('name="image"', "image must be a file"),
    ],
)
def test_a_field_of_another_kind_is_refused(head: str, says: str) -> None:
    error = refusal(part(head))
    assert error.status == 400
    assert says in error.message
    assert len(error.message) < 200


def test_a_field_given_twice_is_refused() -> None:
    error = refusal(part('name="prompt"'), part('name="prompt"'))
    assert (error.status, error.param, error.message) == (400, "prompt", "prompt is given twice")


def test_text_must_be_utf8() -> None:
    error = refusal(part('name="prompt"', b"\xff"))
    assert (error.status, error.message) == (400, "prompt must be UTF-8 text")


@pytest.mark.parametrize(
    ("head", "num_bytes", "says"),
    [
        ('name="prompt"', 101, "prompt has 101 bytes; the limit is 100 (max_prompt_chars)"),
        (
            'name="image"; filename="a"',
            1001,
            "image has 1001 bytes; the limit is 1000 (max_image_bytes)",
        ),
    ],
)
def test_a_field_that_is_too_large_is_413(head: str, num_bytes: int, says: str) -> None:
    read(part(head, b"x" * (num_bytes - 1)))
    error = refusal(part(head, b"x" * num_bytes))
    assert (error.status, error.message) == (413, says)


def test_too_many_parts_and_headers_are_413() -> None:
    many = [part('name="modes"')] * MAX_PARTS
    assert len(read(*many).texts["modes"]) == MAX_PARTS
    assert refusal(*many, part('name="modes"')).code == "too_many_parts"
    headers = 'name="prompt"' + "".join(f"\r\nX-{i}: 1" for i in range(MAX_PART_HEADERS - 1))
    read(part(headers))
    assert refusal(part(headers + "\r\nX: 1")).code == "too_many_headers"
    assert refusal(part(f'name="{"p" * MAX_HEADER_BYTES}"')).code == "part_headers_too_large"


@pytest.mark.parametrize(
    "attack",
    [
        b"\r\n" * 2**22,
        b"\r\n--b" * 2**20,
        b"\r\n--b--" * 2**20,
        b"--b" + b" " * 2**23,
        b"--b\r\n" * 2**20,
        b"--b\r\n" + b"X: 1\r\n" * 2**20,
        b"-" * 2**23,
        part('name="prompt"', b"\r\n--" * 2**21),
        part('name="prompt"', b"\r\n--bX" * 2**20),
        part('name="prompt"', b"\r\n--b" + b" " * 2**23),
    ],
)
def test_no_form_costs_more_than_its_size(attack: bytes) -> None:
    began_s = process_time()
    assert refusal(attack).status in (400, 413)
    assert process_time() - began_s < 1.0  # milliseconds; the rest is for slow machines


def test_attacks_on_the_route_are_answered_and_leave_nothing_behind() -> None:
    settings = Settings(max_image_bytes=1000, max_body_bytes=20000, max_prompt_chars=1000)
    cases = {
        413: [
            b"".join([part('name="image"; filename="a"')] * 65) + b"--b--",
            part('name="image"; filename="a"', b"x" * 1001) + b"--b--",
            part('name="prompt"', b"x" * 4001) + b"--b--",
            part('name="prompt"', b"x" * 20001) + b"--b--",
        ],
        415: [
            part('name="prompt"') + part('name="image"; filename="a"', b"no image") + b"--b--",
        ],
        400: [
            b"",
            b"--b--",
            part('name="image"; filename="a"') + b"--b--",
            part('name="prompt"') + part('name="stream"', b"maybe") + b"--b--",
            part('name="prompt"') + part('name="options"', b"[]") + b"--b--",
            part('name="prompt"') + part('name="options"', b"{") + b"--b--",
            part('name="prompt"') + part('name="options"', b'{"max_tokens": NaN}') + b"--b--",
            part('name="prompt"') + part('name="options"', b"[" * 100) + b"--b--",
            part('name="prompt"') + part('name="image"; filename="a"', b"") + b"--b--",
            part('name="prompt"') + part('name="image"; filename="a"') * 9 + b"--b--",
        ],
    }

    async def run() -> None:
        engine = ScriptedModes()
        async with running(engine, settings) as server:
            for status, bodies in cases.items():
                for body in bodies:
                    for path in ("/v1/generate", "/v1/compare"):
                        headers = {"Content-Type": TYPE}
                        reply = await server.http.post(path, content=body, headers=headers)
                        assert reply.status_code == status, (body[:200], reply.text)
                        assert reply.json()["error"]["message"]
        assert engine.requests == []

    asyncio.run(run())


def test_rich_headers_of_parts_cost_no_more_than_others() -> None:
    bad = part('name="image"; filename="' + ";" * 7900 + '"; x="')
    began_s = process_time()
    assert refusal(*[bad] * MAX_PARTS).code == "bad_form"
    assert read(*[part('name="image"; filename="a; b.png"')] * MAX_PARTS).files["image"]
    assert process_time() - began_s < 0.1
