"""What a request says of the form of its answer: OpenAI's `response_format`, vLLM's
`structured_outputs`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vlm_dlm.structure import MAX_CHOICES
from vlm_dlm_app.schemas.bounds import MAX_TEXT_CHARS, BoundedModel, Several

# Bytes and depth of a schema are bounded where it is written down (`vlm_dlm.structure`).
Schema = Annotated[dict[Annotated[str, Field(max_length=MAX_TEXT_CHARS)], Any], Several()]
Source = Annotated[str, Field(strict=True, max_length=MAX_TEXT_CHARS)]
Choices = Annotated[list[Source], Several(MAX_CHOICES, at_least=1)]


class NamedSchema(BoundedModel):
    """A JSON schema with OpenAI's remarks on it, which change nothing: answers always follow it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, protected_namespaces=())

    schema_: Schema | bool | None = Field(default=None, alias="schema")


class ResponseFormat(BoundedModel):
    """The form of the answer.

    json_schema: of the answer, with type `json_schema`; `schema` is the same without OpenAI's
        wrapping, as llama.cpp has it, also with type `json_object`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True, protected_namespaces=())

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None
    schema_: Schema | None = Field(default=None, alias="schema")


class StructuredOutputs(BoundedModel):
    """The form of the answer, in one of five ways.

    json: a JSON schema, as an object or as text.
    regex: without look around.
    choice: the answer is one of these texts.
    grammar: Lark, or GBNF as llama.cpp has it.
    json_object: any JSON object.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    json_: Schema | bool | Source | None = Field(default=None, alias="json")
    regex: Source | None = None
    choice: Choices | None = None
    grammar: Source | None = None
    json_object: Annotated[bool, Field(strict=True)] | None = None
