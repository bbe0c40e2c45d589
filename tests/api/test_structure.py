"""The form of an answer, as clients of OpenAI, vLLM, SGLang, llama.cpp and Ollama ask for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.serving import LiveServer
from tests.api.test_answer_options import ROUTES, asked, chat
from vlm_dlm.structure import ANY_OBJECT, Structure, StructureKind

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"shape": {"enum": ["circle", "ü"]}}}
JSON = Structure(StructureKind.JSON, json.dumps(SCHEMA))
OBJECT = Structure(StructureKind.JSON, ANY_OBJECT)
CHOICE = Structure(StructureKind.CHOICE, '["yes", "no"]')
REGEX = Structure(StructureKind.REGEX, "[0-9]+")
GBNF = Structure(StructureKind.GRAMMAR, 'root ::= "a" | "b"')
CLASSES = Structure(StructureKind.GRAMMAR, 'root ::= "<" [<>a-z]+ "</b>"')
ONE = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize("ask", ROUTES)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": ONE}, JSON),
        ({"response_format": {"type": "json_object"}}, OBJECT),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, JSON),
        ({"response_format": {"type": "text"}}, None),
        ({"structured_outputs": {"json": SCHEMA}}, JSON),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, JSON),
        ({"structured_outputs": {"json_object": True}}, OBJECT),
        ({"structured_outputs": {"json_object": False}}, None),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, CHOICE),
        ({"structured_outputs": {"regex": "[0-9]+"}}, REGEX),
        ({"structured_outputs": {"grammar": GBNF.source}}, GBNF),
        ({"structured_outputs": {}}, None),
    ],
)
def test_it_reaches_the_engine(
    server: LiveServer, ask: Any, fields: dict[str, Any], expected: Structure | None
) -> None:
    reply = ask(server, max_tokens=8, **fields)
    assert reply.status_code == 200, reply.text
    assert asked(server).structure == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"guided_json": SCHEMA}, JSON),
        ({"guided_json": json.dumps(SCHEMA)}, JSON),
        ({"guided_regex": "[0-9]+"}, REGEX),
        ({"guided_choice": ["yes", "no"]}, CHOICE),
        ({"guided_grammar": GBNF.source}, GBNF),
        ({"regex": "[0-9]+"}, REGEX),
        ({"ebnf": GBNF.source}, GBNF),
        ({"grammar": GBNF.source}, GBNF),
        ({"grammar": CLASSES.source}, CLASSES),
        ({"json_schema": SCHEMA}, JSON),
        ({"json_schema": json.dumps(SCHEMA)}, JSON),
        ({"format": "json"}, OBJECT),
        ({"format": SCHEMA}, JSON),
        ({"format": "", "guided_json": {}, "guided_choice": [], "grammar": None}, None),
    ],
)
def test_other_servers_names_for_it(
    server: LiveServer, fields: dict[str, Any], expected: Structure | None
) -> None:
    reply = chat(server, max_tokens=8, **fields)
    assert reply.status_code == 200, reply.text
    assert asked(server).structure == expected


@pytest.mark.parametrize("ask", ROUTES)
@pytest.mark.parametrize(
    "outputs",
    [
        {"regex": "("},
        {"json": {"type": "strange"}},
        {"json": "{"},
        {"json": {"$ref": "#"}},
        {"grammar": "root ::= nope"},
        {"choice": [""]},
        {"regex": "(" * 60 + ")" * 60},
        {"json": {"enum": ["x" * 1000] * 200}},
    ],
)
def test_one_that_cannot_be_used_is_refused_with_the_reason(
    server: LiveServer, ask: Any, outputs: dict[str, Any]
) -> None:
    num_asked = len(server.engine.requests)
    reply = ask(server, structured_outputs=outputs)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["code"] == "bad_structure"
    assert len(error["message"]) < 300
    assert len(server.engine.requests) == num_asked


@pytest.mark.parametrize(
    "fields",
    [
        {"structured_outputs": {"regex": "a", "choice": ["a"]}},
        {"structured_outputs": {"regex": "a"}, "response_format": ONE},
        {"structured_outputs": {"regex": 5}},
        {"structured_outputs": {"strange": 5}},
        {"structured_outputs": {"choice": []}},
        {"structured_outputs": {"choice": ["a"] * 1001}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "regex"}},
        {"response_format": "json"},
    ],
)
def test_what_is_no_form_is_refused_by_name(server: LiveServer, fields: dict[str, Any]) -> None:
    reply = chat(server, **fields)
    assert reply.status_code == 400, reply.text
    assert next(iter(fields)) in reply.json()["error"]["message"]
