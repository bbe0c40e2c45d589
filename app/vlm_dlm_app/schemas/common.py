"""What the bodies of several routes share: options of an answer, and the figures of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)

from vlm_dlm.decoding import MODES
from vlm_dlm.decoding.options import ModeOption, option_table
from vlm_dlm.request import MAX_STOP_TOKEN_IDS
from vlm_dlm_app.schemas.bounds import (
    MAX_ADDRESS_CHARS,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    BoundedModel,
    Said,
    Several,
)
from vlm_dlm_app.schemas.structure import ResponseFormat, StructuredOutputs

MAX_INT = 2**31 - 1
MAX_BAD_WORDS = 32


def _is_whole(text: str) -> str:
    """JSON can write halves of characters, which no tokenizer and no answer can hold."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode text") from None
    return text


# Strict: neither true nor "1" is a number, and NaN and Infinity are none either.
Whole = Annotated[int, Field(strict=True)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, max_length=MAX_TEXT_CHARS), AfterValidator(_is_whole)]
Name = Annotated[str, Field(strict=True, max_length=MAX_NAME_CHARS), AfterValidator(_is_whole)]
Address = Annotated[
    str, Field(strict=True, max_length=MAX_ADDRESS_CHARS), AfterValidator(_is_whole)
]


def _one_or_several(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if value is None or isinstance(value, list):
        return value  # pyright: ignore[reportUnknownVariableType]
    raise ValueError("must be text or a list of texts")


# One text or several; always several once it is read.
Texts = Annotated[
    list[Text],
    Several(),
    BeforeValidator(_one_or_several),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


TokenIds = Annotated[list[Annotated[Whole, Field(ge=0, le=MAX_INT)]], Several(MAX_STOP_TOKEN_IDS)]

# By token id, as text: JSON has no other keys.
TokenKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")]
LogitBias = Annotated[
    dict[TokenKey, Annotated[Finite, Field(ge=-100, le=100)]],
    Several(),
]
Word = Annotated[Name, Field(min_length=1, max_length=100)]
BadWords = Annotated[list[Word], Several(MAX_BAD_WORDS)]

# What requests may set of the modes' options.
REQUEST_OPTIONS = tuple(
    option
    for option in option_table(mode.options for mode in MODES.values()).values()
    if option.request_names
)


class _OptionsOfModes(BoundedModel):
    """What modes of writing can be told. Null counts as not given.

    The cap on steps has three names, as servers of diffusion models differ; one of them may be
    given.
    """

    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_of_its_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields = cast("dict[str, Any]", value)
        for names in (option.request_names for option in REQUEST_OPTIONS):
            given = [name for name in names if fields.get(name) is not None]
            if len(given) > 1:
                raise ValueError(f"has {' and '.join(given)}, which are the same; give one of them")
            idle = set(names) - set(given) if len(names) > 1 else set[str]()
            fields = {name: fields[name] for name in fields if name not in idle}
        return fields


def _field(option: ModeOption) -> Any:
    """Of a body: its type, and what else is known of it."""
    hint: Any = Flag
    if option.kind is not bool:
        kind = Whole if option.kind is int else Finite
        hint = Annotated[kind, Field(ge=option.low, le=option.high)]
    names = option.request_names
    alias = AliasChoices(*names) if len(names) > 1 else None
    return hint | None, Field(default=None, validation_alias=alias)


if TYPE_CHECKING:

    class ModeOptions(_OptionsOfModes):
        """Has a field for each of REQUEST_OPTIONS."""

else:
    ModeOptions = create_model(
        "ModeOptions",
        __base__=_OptionsOfModes,
        __doc__=_OptionsOfModes.__doc__,
        __module__=__name__,
        **{option.request_names[0]: _field(option) for option in REQUEST_OPTIONS},
    )


class AnswerOptions(ModeOptions):
    """How one answer is written. `vlm_dlm_app.answering.intake` gives the defaults.

    top_k: 0 or -1 for all.
    logit_bias: added to logits, by token id.
    bad_words: texts that do not come, as the tokenizer cuts them, also after a blank.
    deadline_s: seconds for the whole answer, preparing and waiting included.
    """

    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_INT)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    seed: Annotated[Whole, Field(ge=0, le=2**63 - 1)] | None = None
    stop: Texts | None = None
    top_k: Annotated[Whole, Field(ge=-1, le=MAX_INT)] | None = None
    min_p: Annotated[Finite, Field(ge=0, le=1)] | None = None
    min_tokens: Annotated[Whole, Field(ge=0, le=MAX_INT)] | None = None
    ignore_eos: Flag | None = None
    stop_token_ids: TokenIds | None = None
    skip_special_tokens: Flag | None = None
    priority: Literal["interactive", "batch"] | None = None
    deadline_s: Annotated[Finite, Field(gt=0, le=86400)] | None = None
    presence_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Finite, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[Finite, Field(ge=0.01, le=10)] | None = None
    logit_bias: LogitBias | None = None
    bad_words: BadWords | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None


_hidden = {name for option in REQUEST_OPTIONS for name in option.request_names} & {
    *AnswerOptions.__annotations__
}
if _hidden:
    raise ValueError(f"options of modes are called as fields of all answers are: {_hidden}")


class PromptTokensDetails(BaseModel):
    """Of the tokens of the prompt.

    cached_tokens: prompt tokens that were not computed again.
    """

    cached_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """Tokens, as OpenAI counts them. Answers of one request share one prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Timings(BaseModel):
    """Speed of one answer under llama.cpp's names.

    prompt_ms: image and prompt, null where the engine does not say.
    predicted_ms: writing.
    draft_n, draft_n_accepted: tokens proposed to a verifier, and those of them that it kept, also
        where the answer ended before them; 0 in modes that do not verify.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float | None
    prompt_per_second: float | None
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int


class SpeculativeDecoding(BaseModel):
    """Figures of the verify steps of one answer.

    mean_acceptance_length: tokens per verify step, the verifier's own included.
    acceptance_histogram: at [k] the verify steps that kept k drafts; a step without drafts is none.

    What the verifier kept counts also where the answer ended before it.
    """

    mean_acceptance_length: float
    draft_acceptance_rate: float | None
    acceptance_histogram: Annotated[list[int], Several()]
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int


class Diffusion(BaseModel):
    """Figures of the diffusion of one answer.

    num_denoising_steps: forwards that filled blocks.
    num_commit_forwards: one per block done.
    """

    num_denoising_steps: int
    num_blocks: int
    num_commit_forwards: int
    mean_steps_per_block: float | None


class RequestMetrics(BaseModel):
    """Figures of one answer under vLLM's names and some of ours, measured by the engine.

    time_to_first_token_ms: from its arrival in the queue to its first token, so queue, image and
        prompt are included.
    time_to_first_sentence_ms: likewise, to the end of the first whole sentence; null for an answer
        of no words.
    generation_time_ms: writing, after the prompt.
    vision_time_ms, prefill_time_ms: null where the engine does not say, as vLLM.
    tokens_per_second: tokens over generation_time_ms.
    num_forwards: forwards of the model while writing.
    num_positions: places that those forwards computed.
    num_wasted_positions: those of them that became no token of the answer.
    """

    model_config = ConfigDict(protected_namespaces=())

    mode: Said
    time_to_first_token_ms: float | None
    time_to_first_sentence_ms: float | None
    generation_time_ms: float
    queue_time_ms: float
    vision_time_ms: float | None
    prefill_time_ms: float | None
    decode_time_ms: float
    mean_itl_ms: float | None
    tokens_per_second: float
    num_forwards: int
    tokens_per_forward: float
    num_positions: int
    num_wasted_positions: int
    speculative_decoding: SpeculativeDecoding | None
    diffusion: Diffusion | None
    device: Said
    dtype: Said
