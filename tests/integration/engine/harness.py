"""A tiny random model, an engine around it, and the twin that belongs to a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from tests.invariants import assert_round_trip, assert_stream, events_of
from tests.twins.autoregressive import ar_generate
from tests.twins.block_diffusion import Options, generate
from tests.twins.chooser import Chooser
from tests.twins.forward import DenseForward, Outcome
from tests.twins.linear_speculation import linear_spec_generate
from tests.twins.quadratic_speculation import self_spec_generate
from vlm_dlm.checkpoint.config import ModelConfig, RopeConfig
from vlm_dlm.decoding import MODES
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.request_state import Detokenizer
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent
from vlm_dlm.grammar.compiler import GrammarCompiler
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import new_model
from vlm_dlm.request import DecodingIds, GenerationRequest, PromptInput, SamplingParams

VOCAB, MASK, EOS, END_THINK, IMAGE = 24, 23, 22, 21, 19
IDS = DecodingIds(MASK, frozenset([EOS]), END_THINK)


def tiny_config(**changes: Any) -> ModelConfig:
    defaults: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "rope": RopeConfig(original_max_position_embeddings=64, factor=4.0),
        "vision": None,
    }
    return ModelConfig(**{**defaults, **changes})


def fresh_model(seed: int = 0, config: ModelConfig | None = None) -> VlmModel:
    """Random weights, large enough for confident and varied answers."""
    model = new_model(config or tiny_config(), seed).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.startswith("vision."):
            parameter.mul_(24.0 if name.startswith("diffusion_head") else 8.0)
    return model


@lru_cache(maxsize=8)
def tiny_model(seed: int = 0) -> VlmModel:
    """Shared by tests that do not change it."""
    return fresh_model(seed)


class LaggingDetokenizer:
    """Words separated by blanks; the last one is held back until the next comes or the end."""

    def __init__(self, skip_special: bool = True) -> None:
        self.held: list[int] = []

    def push(self, token_ids: list[int]) -> str:
        ready = [*self.held, *token_ids]
        self.held = ready[-1:]
        return spell(ready[:-1])

    def flush(self) -> str:
        return spell(self.held)


def spell(token_ids: Iterable[int]) -> str:
    return "".join(f"<{token}>" for token in token_ids)


def make_core(model: VlmModel | None = None, **limits: Any) -> EngineCore:
    config = EngineConfig(**{"page_size": 8, "max_cache_tokens": 4096, **limits})
    return core_of(model or tiny_model(), IMAGE, config)


def core_of(
    model: VlmModel,
    image_token_id: int | None = None,
    config: EngineConfig | None = None,
    make_detokenizer: Callable[[bool], Detokenizer] = LaggingDetokenizer,
    ids: DecodingIds = IDS,
    grammars: GrammarCompiler | None = None,
) -> EngineCore:
    runner = TorchRunner(model, image_token_id, config)
    return EngineCore(runner, ids, make_detokenizer, config, grammars)


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random ids without specials."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return tuple(torch.randint(0, IMAGE, (length,), generator=generator).tolist())


def ask(
    name: str,
    mode: str,
    prompt: tuple[int, ...],
    options: dict[str, Any] | None = None,
    keep_prompt: bool = False,
    **sampling: Any,
) -> GenerationRequest:
    params = MODES[mode].Params(**(options or default_options(mode)))
    wanted = SamplingParams(**{"max_tokens": 16, "seed": 0, **sampling})
    return GenerationRequest(name, PromptInput(prompt), mode, params, wanted, keep_prompt)


def default_options(mode: str) -> dict[str, Any]:
    return {} if mode == "ar" else {"block_length": 4}


@dataclass(frozen=True)
class Answer:
    """What one request gave: text without times, so that answers can be compared."""

    tokens: tuple[int, ...]
    text: str
    ending: str
    num_forwards: int
    acceptance: tuple[int, ...]


def answer_of(events: list[GenerationEvent]) -> Answer:
    committed = [event for event in events if isinstance(event, Committed)]
    tokens = tuple(token.id for event in committed for token in event.tokens)
    text = "".join(event.text for event in committed)
    last = events[-1]
    if isinstance(last, Failed):
        return Answer(tokens, text, last.code, 0, ())
    assert isinstance(last, Finished)
    text += last.text
    assert text == spell(tokens), "the joined texts are the whole answer"
    acceptance = last.stats.acceptance_lengths or ()
    return Answer(tokens, text, last.reason, last.stats.num_forwards, acceptance)


def answers_of(events: Iterable[GenerationEvent]) -> dict[str, Answer]:
    """Answers by request id; checks every stream on the way."""
    events = list(events)
    names = dict.fromkeys(event.request_id for event in events)
    answers = {}
    for name in names:
        own = events_of(events, name)
        assert_stream(own, IDS)
        assert_round_trip(own)
        answers[name] = answer_of(own)
    return answers


def run(core: EngineCore, *requests: GenerationRequest) -> dict[str, Answer]:
    return answers_of(core.run(requests))


def run_alone(request: GenerationRequest, model: VlmModel | None = None) -> Answer:
    """In an engine of its own."""
    return run(make_core(model), request)[request.request_id]


def twin_answer(forward: DenseForward, request: GenerationRequest) -> Answer:
    """The document's own loop, counted and cut as the product does."""
    twin = _twin(forward, request)
    tokens = tuple(twin.tokens[: request.sampling.max_tokens])
    ending = "stop" if tokens[-1] == EOS else "length"
    is_speculative = MODES[request.mode].is_speculative
    num_forwards = twin.nfe - 1 if is_speculative else twin.nfe
    # the first forward of quadratic speculation has nothing to verify
    acceptance = twin.acceptance[1:] if request.mode == "quadratic_spec" else twin.acceptance
    return Answer(tokens, spell(tokens), ending, num_forwards, tuple(acceptance))


def _twin(forward: DenseForward, request: GenerationRequest) -> Outcome:
    sampling, params = request.sampling, request.params
    prompt, num = list(request.prompt.token_ids), sampling.max_tokens
    assert num is not None
    is_exact = getattr(params, "is_exact_reference", False)
    chooser = Chooser(sampling.temperature, sampling.seed or 0, None if is_exact else MASK)
    thought = {"max_thinking_tokens": sampling.max_thinking_tokens, "end_think": END_THINK}
    common: dict[str, Any] = {"eos": EOS, "chooser": chooser}
    if request.mode == "ar":
        return ar_generate(forward, prompt, num, **common, **thought)
    common |= {"mask": MASK}
    length = params.block_length
    if request.mode == "diffusion":
        seeded = params.seed_first_token
        options = Options(length, params.threshold, params.steps, seeded, is_exact, **thought)
        return generate(forward, prompt, -(-num // length) * length, options, **common)
    common |= {"block_length": length, **thought}
    if request.mode == "quadratic_spec":
        return self_spec_generate(forward, prompt, num, **common)
    common |= {"threshold": params.threshold, "adapter": forward.model.has_draft_adapter}
    return linear_spec_generate(forward, prompt, num, **common)
