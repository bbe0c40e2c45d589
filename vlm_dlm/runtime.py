"""The composition root: a checkpoint folder becomes a model, an engine and answers.

The only place that names the concrete parts. What can be checked without torch is `preflight.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vlm_dlm.answer_room import cache_needed
from vlm_dlm.decoding import MODES
from vlm_dlm.defaults import (
    DTYPES,
    cache_bytes_per_token,
    check_choice,
    choose_dtype,
)
from vlm_dlm.devices import choose_device
from vlm_dlm.engine.config import EngineConfig
from vlm_dlm.engine.core import EngineCore
from vlm_dlm.engine.torch_runner import TorchRunner
from vlm_dlm.errors import EngineError
from vlm_dlm.events import Committed, Failed, Finished, GenerationEvent
from vlm_dlm.grammar.compiler import GrammarCompiler
from vlm_dlm.memory import memory_limit
from vlm_dlm.model.lora_loading import load_draft_adapter
from vlm_dlm.model.quantization import check_quantize
from vlm_dlm.model.vlm import VlmModel
from vlm_dlm.model.weights import Progress, load_model
from vlm_dlm.preflight import (
    Checkpoint,
    ImageSource,
    conversation,
    mode_params,
    open_checkpoint,
    parse_modes,
    prepare_prompt,
    read_images,
)
from vlm_dlm.processor.processor import PreparedPrompt
from vlm_dlm.report import Answer, Report, results_of
from vlm_dlm.request import (
    DEFAULT_MODE,
    DecodingIds,
    GenerationRequest,
    ImageInput,
    PromptInput,
    SamplingParams,
)
from vlm_dlm.warm_up import COMPARE_TOKENS, warm_up_sampling

OnEvent = Callable[[GenerationEvent], None]


class Runtime:
    """One loaded checkpoint and its engine. Not thread safe: one thread owns it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        runner: TorchRunner,
        core: EngineCore,
        device: str,
        dtype: str,
    ) -> None:
        """dtype: as it is to be shown, such as 'float32' or 'bfloat16, int8 weights'."""
        self.checkpoint = checkpoint
        self.runner = runner
        self.core = core
        self.device = device
        self.dtype = dtype

    @classmethod
    def load(
        cls,
        model: str | Path | Checkpoint | None = None,
        device: str = "auto",
        dtype: str = "auto",
        adapter: Path | None = None,
        progress: Progress | None = None,
        engine_config: EngineConfig | None = None,
        quantize: str | None = None,
    ) -> Runtime:
        """Load weights and build the engine.

        Args:
            model: folder, Hub id or opened checkpoint; None takes the embedded one.
            device: auto, cpu or cuda.
            dtype: auto, float32 or bfloat16.
            adapter: folder of a draft adapter.
            progress: called with (done, total) bytes.
            engine_config: limits of the engine.
            quantize: int8 or int4 for the decoder's matrices; needs torchao.

        Raises:
            CheckpointError: the checkpoint or adapter is missing, damaged or does not match.
            CapacityError: there is no memory for the engine's cache.
            BadInputError: an unknown device, dtype or scheme, a device that is not there, or no
                torchao to quantize with.
        """
        check_quantize(quantize)
        checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
        device = choose_device(device)
        check_choice("dtype", dtype, DTYPES)
        if dtype == "auto":
            dtype = choose_dtype(checkpoint.config, device, memory_limit(), quantize)
        limits = engine_config or EngineConfig()
        cache_bytes = limits.max_cache_tokens * cache_bytes_per_token(checkpoint.config, dtype)
        weights = load_model(
            checkpoint.folder,
            device,
            getattr(torch, dtype),
            progress,
            reserved_bytes=cache_bytes,
            quantize=quantize,
        )
        if adapter is not None:
            load_draft_adapter(weights, adapter)
        processor = checkpoint.processor
        special = processor.tokenizer.special
        ids = DecodingIds(special.mask, frozenset(special.eos), special.think_end)
        pad = None if special.image is None else special.image.pad
        runner = TorchRunner(weights, pad, limits)
        grammars = GrammarCompiler(processor.tokenizer, checkpoint.config.vocab_size, ids.eos)
        core = EngineCore(runner, ids, processor.detokenizer, limits, grammars)
        shown = dtype if quantize is None else f"{dtype}, {quantize} weights"
        return cls(checkpoint, runner, core, device, shown)

    @property
    def model(self) -> VlmModel:
        """The weights."""
        return self.runner.model

    def prompt(
        self,
        text: str,
        images: Sequence[ImageSource] = (),
        *,
        system: str | None = None,
        max_tokens: int | None = None,
    ) -> PreparedPrompt:
        """One question about images (paths, file contents or opened images).

        Raises ImageError, or ContextLengthError if `max_tokens` more, without them a single one,
        would not fit into the context.
        """
        opened = read_images(images)
        messages = conversation(text, len(opened), system)
        return prepare_prompt(self.checkpoint, messages, opened, max_tokens)

    def inputs(self, prompt: PreparedPrompt) -> PromptInput:
        """The prompt with its pixels, resized and normalised on the CPU."""
        pixels = self.checkpoint.processor.pixels(prompt)
        images = (
            ImageInput(plane, content_hash, grid.num_pads)
            for plane, content_hash, grid in zip(
                pixels, prompt.image_hashes, prompt.grids, strict=True
            )
        )
        return PromptInput(prompt.token_ids, tuple(images))

    def generate(
        self,
        prompt: PreparedPrompt,
        mode: str = DEFAULT_MODE,
        options: Mapping[str, Any] | None = None,
        sampling: SamplingParams | None = None,
        on_event: OnEvent | None = None,
    ) -> Report:
        """One answer. An option that the mode lacks is a ModeError."""
        (mode,) = parse_modes([mode])
        params = mode_params([mode], options or {})[mode]
        sampling = sampling or SamplingParams()
        request = GenerationRequest(mode, self.inputs(prompt), mode, params, sampling)
        return self._report(prompt, self.answers([request], on_event))

    def compare(
        self,
        prompt: PreparedPrompt,
        modes: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        sampling: SamplingParams | None = None,
        on_event: OnEvent | None = None,
        is_warm: bool = True,
    ) -> Report:
        """The same prompt in several modes, one after another; image and prompt computed once.

        An option goes to the modes that have it. is_warm: run every mode for a few tokens first,
        not counted, so that no mode pays for first-time work.
        """
        names = parse_modes(modes)
        params = mode_params(names, options or {}, is_shared=True)
        sampling = sampling or SamplingParams()
        inputs = self.inputs(prompt)
        if is_warm:
            self.warm_up(_unseen(inputs), params, sampling.max_tokens)
        while self.core.prompts.drop_oldest():  # this prompt may be there from an earlier call
            pass
        inputs = _unseen(inputs)
        answers: list[Answer] = []
        for name in names:
            request = GenerationRequest(name, inputs, name, params[name], sampling, True)
            answers += self.answers([request], on_event)
        return self._report(prompt, answers)

    def warm_up(
        self, inputs: PromptInput, params: Mapping[str, Any], max_tokens: int | None
    ) -> None:
        """Run every mode of `params` for a few tokens, `max_tokens` at most."""
        sampling = warm_up_sampling(COMPARE_TOKENS, max_tokens)
        for mode, chosen in params.items():
            self.answers([GenerationRequest("warm-up", inputs, mode, chosen, sampling)])

    def answers(
        self, requests: Sequence[GenerationRequest], on_event: OnEvent | None = None
    ) -> list[Answer]:
        """Run requests together and collect their answers, in the order of the requests.

        Raises EngineError if one fails; the others are aborted then.
        """
        events: dict[str, list[GenerationEvent]] = {r.request_id: [] for r in requests}
        try:
            for event in self.core.run(requests):
                if isinstance(event, Failed):
                    raise EngineError(event.message)
                if isinstance(event, Committed | Finished):
                    events[event.request_id].append(event)
                if on_event is not None:
                    on_event(event)
        except BaseException:
            for request in requests:
                self.core.abort(request.request_id)
            raise
        return [_answer(request.mode, events[request.request_id]) for request in requests]

    def close(self) -> None:
        """Free the cache."""
        self.core.close()

    def _report(self, prompt: PreparedPrompt, answers: Sequence[Answer]) -> Report:
        """Image and prompt times are those of the first answer, which computed them."""
        first = answers[0].stats
        assert first.vision_s is not None, "our own engine knows where its time went"
        assert first.prefill_s is not None, "likewise"
        prompt_s = first.vision_s + first.prefill_s
        return Report(
            model=self.checkpoint.name,
            device=self.device,
            dtype=self.dtype,
            image_tokens=first.num_image_tokens,
            prompt_tokens=len(prompt.token_ids),
            vision_s=first.vision_s,
            prefill_s=first.prefill_s,
            results=results_of(answers, prompt_s),
        )


def fitting_config(num_prompt: int, max_tokens: int, params: Mapping[str, Any]) -> EngineConfig:
    """An engine just large enough for one request at a time and its kept prompt."""
    rows = max(MODES[mode]().max_query_len(chosen) for mode, chosen in params.items())
    default = EngineConfig()
    kept = num_prompt + default.page_size  # a table's last page may be part empty
    live = cache_needed(num_prompt, max_tokens, rows) + default.page_size
    return replace(
        default,
        max_cache_tokens=kept + live,
        max_batched_tokens=max(default.max_batched_tokens, rows),
        num_kept_prompts=1,
    )


def _unseen(inputs: PromptInput) -> PromptInput:
    """The same prompt, its images under new names: encoded again, not found in the cache."""
    salt = secrets.token_hex(8)
    images = (replace(i, content_hash=f"{i.content_hash}-{salt}") for i in inputs.images)
    return replace(inputs, images=tuple(images))


def _answer(mode: str, events: Sequence[GenerationEvent]) -> Answer:
    """events: all Committed of one request, then its Finished."""
    committed = [event for event in events if isinstance(event, Committed)]
    end = events[-1]
    assert isinstance(end, Finished), "a request ends in Finished, or in Failed, raised before"
    prefilled_s = end.time_s - end.stats.decode_s
    return Answer(
        mode=mode,
        text="".join(event.text for event in committed) + end.text,
        token_ids=tuple(token.id for event in committed for token in event.tokens),
        finish_reason=end.reason,
        first_token_s=committed[0].time_s - prefilled_s if committed else None,
        stats=end.stats,
        margins=tuple(token.margin for event in committed for token in event.tokens),
    )
