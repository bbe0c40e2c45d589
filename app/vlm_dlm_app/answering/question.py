"""One prompt about some images, as /v1/generate and /v1/compare take it, to what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlm_dlm.preflight import conversation
from vlm_dlm_app.answering.intake import Ask, deadline_of, priority_of, sampling_of
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.generate import Question
from vlm_dlm_app.state import Services


def ask_of(services: Services, body: Question, files: Sequence[bytes]) -> Ask:
    """The question with its images: a form's files, or a JSON body's data URIs.

    Raises ApiError or BadInputError for what is over a limit.
    """
    options = body.options
    num_images = len(files) + len(body.images)
    sampling = sampling_of(services, options)
    if options.max_thinking_tokens is not None:
        if not options.enable_thinking:
            raise ApiError(
                400,
                "bad_input",
                "max_thinking_tokens needs enable_thinking",
                "options.max_thinking_tokens",
            )
        sampling = replace(sampling, max_thinking_tokens=options.max_thinking_tokens)
    return Ask(
        messages=conversation(body.prompt, num_images, body.system),
        images=(*files, *body.images),
        sampling=sampling,
        priority=priority_of(options),
        deadline_s=deadline_of(services, options),
        enable_thinking=options.enable_thinking,
        prompt_field="prompt",
    )
