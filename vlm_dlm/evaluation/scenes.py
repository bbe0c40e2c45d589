"""The evaluation run: held-out scenes as real image files, every prompt in every mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vlm_dlm.evaluation.scores import CAPTION, EvaluationReport, Outcome, score
from vlm_dlm.preflight import conversation, mode_params, parse_modes, prepare_prompt
from vlm_dlm.processor.image_input import read_image
from vlm_dlm.report import Answer
from vlm_dlm.request import REFERENCE_MODE, GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.runtime import Runtime
from vlm_dlm.scenes.language import CAPTION_PROMPTS
from vlm_dlm.scenes.samples import encode_image, make_sample, sample_rng

NUM_QUESTIONS = 2
MAX_TOKENS = 192  # the longest caption has about 120


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with its only right answer. kind: 'caption' or the kind of question."""

    kind: str
    expected: str
    prompt: PromptInput


def evaluate(
    runtime: Runtime,
    num: int,
    modes: Sequence[str] | None = None,
    seed: int = 0,
    batch: int = 1,
    progress: Callable[[], object] | None = None,
    options: Mapping[str, Any] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> EvaluationReport:
    """Caption and question `num` held-out scenes, greedily, in every mode.

    Args:
        runtime: what to evaluate.
        num: scenes; each gives one caption and up to two questions.
        modes: None means all.
        seed: of the scenes.
        batch: requests of one mode in flight. Above 1 the run is faster and has no tokens/s.
        progress: called after each scene.
        options: of the modes, given to those that have them.
        max_tokens: longest answer.
    """
    names = parse_modes(modes)
    params = mode_params(names, options or {}, is_shared=True)
    sampling = SamplingParams(max_tokens=max_tokens)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    num_answers = 0
    stream = tasks(runtime, num, seed, max_tokens, progress)
    is_first = True
    while group := list(islice(stream, batch)):
        if is_first:
            runtime.warm_up(group[0].prompt, params, max_tokens)
            is_first = False
        num_answers += sum(task.kind != CAPTION for task in group)
        for name in names:
            answers = _run(runtime, group, name, params[name], sampling)
            pairs = zip(group, answers, strict=True)
            outcomes[name] += [_outcome(task, answer) for task, answer in pairs]
    return EvaluationReport(
        model=runtime.checkpoint.name,
        device=runtime.device,
        dtype=runtime.dtype,
        num_scenes=num,
        num_captions=num,
        num_answers=num_answers,
        seed=seed,
        batch=batch,
        results=tuple(
            score(name, found, outcomes.get(REFERENCE_MODE), is_timed=batch == 1)
            for name, found in outcomes.items()
        ),
    )


def tasks(
    runtime: Runtime,
    num: int,
    seed: int = 0,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[], object] | None = None,
) -> Iterator[Task]:
    """Prompts scene by scene, so that those of one image meet its features in the cache."""
    for index in range(num):
        sample = make_sample(index, "heldout", seed, num_questions=NUM_QUESTIONS)
        data, _ = encode_image(sample.image, sample_rng(index, "heldout", seed, "file"))
        image = read_image(data)
        pairs = [(CAPTION, CAPTION_PROMPTS[0], sample.caption)]
        pairs += [(qa.kind, qa.question, qa.answer) for qa in sample.questions]
        images: Any = None
        for kind, text, expected in pairs:
            prepared = prepare_prompt(
                runtime.checkpoint, conversation(text, 1), (image,), max_tokens
            )
            images = images or runtime.inputs(prepared).images  # the pixels are made once
            yield Task(kind, expected, PromptInput(prepared.token_ids, images))
        if progress is not None:
            progress()


def _run(
    runtime: Runtime, group: Sequence[Task], mode: str, params: Any, sampling: SamplingParams
) -> list[Answer]:
    """A group of prompts in one mode, together. Prompts stay cached for the next mode."""
    requests = [
        GenerationRequest(f"{mode}-{i}", task.prompt, mode, params, sampling, keep_prompt=True)
        for i, task in enumerate(group)
    ]
    return runtime.answers(requests)


def _outcome(task: Task, answer: Answer) -> Outcome:
    return Outcome(task.kind, answer.text, task.expected, answer.token_ids, answer.stats)
