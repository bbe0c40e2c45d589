"""What is said to vLLM and what it answers: its interface of tokens in, tokens out.

Its chat interface would encode the text of users with special tokens in it, and would hand out
text; this one takes the very ids that our own engine reads and gives ids back.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

from vlm_dlm.errors import EngineError, ModeError
from vlm_dlm.processor.tokenizer import ImageIds, SpecialIds
from vlm_dlm.request import GenerationRequest, ImageInput
from vlm_dlm.step import Logprobs
from vlm_dlm.structure import Structure, StructureKind

NUM_LOGPROBS = 2  # the best two, which give the margin
NEVER = -100.0  # added to a logit
# Fields of the sampling that have the same name there, and what changes nothing.
_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)
UNREADABLE = "vLLM sent an answer that cannot be read"
FAILED = "vLLM failed while this request was running"


@dataclass(frozen=True, slots=True)
class Choice:
    """One token.

    margin: the best logit less the second best; None where vLLM does not say.
    logprobs: all that vLLM says.
    """

    token_id: int
    confidence: float
    margin: float | None
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of the stream.

    reason: why it ends, None while it goes on.
    num_cached: prompt tokens that were not computed again, None where vLLM does not say.
    """

    choices: tuple[Choice, ...] = ()
    reason: str | None = None
    num_cached: int | None = None


def body_of(request: GenerationRequest, special: SpecialIds, model: str) -> dict[str, Any]:
    """The JSON body of one request. With images not for an event loop: it compresses them.

    Raises ModeError for what vLLM cannot do, EngineError for an image that comes without picture.
    """
    sampling = request.sampling
    if sampling.max_thinking_tokens is not None:
        raise ModeError("max_thinking_tokens is not offered where vLLM runs the mode")
    if sampling.bad_words:
        raise ModeError("bad_words are not offered where vLLM runs the mode")
    wanted: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "stop_token_ids": sorted(sampling.ending_ids(special.eos)),
        "logprobs": max(NUM_LOGPROBS, sampling.num_logprobs or 0),
        "logit_bias": {
            **{str(token_id): value for token_id, value in sampling.logit_bias},
            str(special.mask): NEVER,
        },
        "detokenize": False,
    }
    if sampling.top_k:
        wanted["top_k"] = sampling.top_k
    if sampling.min_p:
        wanted["min_p"] = sampling.min_p
    is_free = sampling.structure is None  # else it ends where it is whole
    if sampling.min_tokens and is_free:
        wanted["min_tokens"] = sampling.min_tokens
    wanted |= {
        name: getattr(sampling, name)
        for name, neutral in _PENALTIES.items()
        if getattr(sampling, name) != neutral
    }
    if sampling.structure is not None:
        wanted["structured_outputs"] = _structure(sampling.structure)
    if sampling.ignore_eos and is_free:
        wanted["ignore_eos"] = True
    if sampling.seed is not None:
        wanted["seed"] = sampling.seed
    body: dict[str, Any] = {
        "request_id": request.request_id,
        "model": model,
        "token_ids": unexpanded(request.prompt.token_ids, special.image),
        "sampling_params": wanted,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.prompt.images:
        body["content_parts"] = [_part(image) for image in request.prompt.images]
    return body


def _structure(structure: Structure) -> dict[str, Any]:
    """Under vLLM's names."""
    if structure.kind is StructureKind.CHOICE:
        return {"choice": structure.choices()}
    return {structure.kind.value: structure.source}


def unexpanded(token_ids: Sequence[int], image: ImageIds | None) -> list[int]:
    """The prompt with one start marker per image, which the plugin makes its whole run again."""
    if image is None:
        return list(token_ids)
    inside = (image.pad, image.row_break, image.end)
    return [token_id for token_id in token_ids if token_id not in inside]


def _part(image: ImageInput) -> dict[str, Any]:
    if image.picture is None:
        raise EngineError("an image was prepared without the picture that vLLM reads")
    buffer = BytesIO()
    image.picture.save(buffer, "PNG", compress_level=1)  # mostly for a process of this machine
    data = base64.b64encode(buffer.getbuffer()).decode("ascii")
    url = f"data:image/png;base64,{data}"
    return {"type": "image_url", "url": url, "uuid": image.content_hash}


def parse_chunk(data: str) -> Chunk:
    """One event's data. Raises EngineError for an error of vLLM's, or what is no such event."""
    try:
        raw = json.loads(data)
        if "error" in raw:
            raise EngineError(FAILED)
        usage: dict[str, Any] = raw.get("usage") or {}
        details: dict[str, Any] = usage.get("prompt_tokens_details") or {}
        num_cached = _count(details.get("cached_tokens"))
        if not raw["choices"]:
            return Chunk(num_cached=num_cached)
        choice = raw["choices"][0]
        reason = choice.get("finish_reason")
        if reason not in (None, "stop", "length"):  # error, abort, or what is not known here
            raise EngineError(FAILED)
        return Chunk(_choices(choice), reason, num_cached)
    except _MALFORMED:
        raise EngineError(UNREADABLE) from None


def _count(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError("a count is a whole number")
    return value


def _choices(choice: dict[str, Any]) -> tuple[Choice, ...]:
    token_ids = cast("list[Any]", choice.get("token_ids") or [])
    logprobs: dict[str, Any] = choice.get("logprobs") or {}
    content = cast("list[Any]", logprobs.get("content") or [])
    if len(content) != len(token_ids):
        raise ValueError("a logprob for every token was asked for")
    return tuple(_choice(*pair) for pair in zip(token_ids, content, strict=True))


def _choice(token_id: Any, entry: dict[str, Any]) -> Choice:
    if type(token_id) is not int or token_id < 0 or entry["token_id"] != token_id:
        raise ValueError("token ids are whole numbers")
    tops: list[dict[str, Any]] = entry.get("top_logprobs") or []
    best = sorted((float(top["logprob"]) for top in tops), reverse=True)
    margin = round(best[0] - best[1], 6) if len(best) > 1 else None
    own = float(entry["logprob"])
    top = [(top["token_id"], float(top["logprob"])) for top in tops if "token_id" in top]
    top.sort(key=lambda one: -one[1])
    return Choice(token_id, math.exp(min(own, 0.0)), margin, Logprobs(own, tuple(top)))
