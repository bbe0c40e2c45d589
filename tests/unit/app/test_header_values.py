"""Reading a header's value costs no more than its length, whatever is in it."""

from __future__ import annotations

from time import process_time

import pytest

from vlm_dlm_app.http.header_values import MAX_MARKS, is_host, parse_type, parse_value

LIMIT_S = 0.01
LONG = 60_000


@pytest.mark.parametrize(
    "rest", [";" * LONG, '";' * (LONG // 2), '\\";' * (LONG // 3), "a=b;" * (LONG // 4), "a" * LONG]
)
@pytest.mark.parametrize("end", ["", '"', '"; x="'])
def test_long_values_cost_nothing(rest: str, end: str) -> None:
    began_s = process_time()
    assert parse_type(f'multipart/form-data; boundary="{rest}{end}')[0] == ""
    assert process_time() - began_s < LIMIT_S


@pytest.mark.parametrize("rest", [";", '";', '\\";', "a=b;"])
def test_the_richest_that_is_read_costs_little(rest: str) -> None:
    value = 'form-data; name="image"; filename="' + rest.ljust(200) * (MAX_MARKS - 2)
    began_s = process_time()
    parse_value(value.encode())
    assert process_time() - began_s < LIMIT_S


def test_values_as_clients_write_them() -> None:
    assert parse_type("application/json; charset=utf-8")[0] == "application/json"
    assert parse_type("Application/JSON")[0] == "application/json"
    assert parse_type('multipart/form-data; boundary="a;b"')[1] == {b"boundary": b"a;b"}
    kind, parameters = parse_value(b'form-data; name="image"; filename="a; b; \xc3\xa9.png"')
    assert (kind, parameters[b"name"]) == (b"form-data", b"image")
    assert parameters[b"filename"] == b"a; b; \xc3\xa9.png"


@pytest.mark.parametrize("host", ["a", "my_host.example:8000", "[::1]", "[::1]:80", "10.0.0.7"])
def test_hosts(host: str) -> None:
    assert is_host(host)
    assert is_host(host, has_port=False) == (not host.endswith(("000", ":80")))


@pytest.mark.parametrize("host", ["", "a b", "a:", "a:123456", "http://a", "[a", "a/b", "x" * 254])
def test_what_is_no_host(host: str) -> None:
    assert not is_host(host)
