"""What a request asks of sampling is asked of vLLM in its own words."""

from __future__ import annotations

from typing import Any

from vlm_dlm.processor.tokenizer import SpecialIds
from vlm_dlm.request import GenerationRequest, PromptInput, SamplingParams
from vlm_dlm.serving.vllm.messages import body_of

SPECIAL = SpecialIds(100, 1, 2, 3, 4, (2, 5), None)


def asked(**sampling: Any) -> dict[str, Any]:
    wanted = SamplingParams(max_tokens=8, **sampling)
    request = GenerationRequest("r", PromptInput((9,)), "ar", sampling=wanted)
    return body_of(request, SPECIAL, "m")["sampling_params"]


def test_options_are_passed_on() -> None:
    found = asked(top_k=5, min_p=0.25, min_tokens=3, stop_token_ids=(7,))
    assert (found["top_k"], found["min_p"], found["min_tokens"]) == (5, 0.25, 3)
    assert found["stop_token_ids"] == [2, 5, 7]


def test_end_tokens_that_end_nothing_are_not_stop_tokens() -> None:
    found = asked(ignore_eos=True, stop_token_ids=(7,))
    assert (found["ignore_eos"], found["stop_token_ids"]) == (True, [7])


def test_neutral_values_are_left_out() -> None:
    assert not {"top_k", "min_p", "min_tokens", "ignore_eos"} & asked().keys()
