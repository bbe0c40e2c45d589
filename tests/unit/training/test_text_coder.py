"""Training prompts are exactly those that the processor builds when serving."""

from __future__ import annotations

import json

import pytest

from vlm_dlm.checkpoint.config import ModelConfig
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.prompt import ImagePart, Message, PromptBuilder, TextPart
from vlm_dlm.processor.tokenizer import Tokenizer
from vlm_dlm.training.text_coder import TextCoder
from vlm_dlm.training.tokenizer import CHAT_TEMPLATE, build_tokenizer, training_texts


@pytest.mark.parametrize("with_image", [True, False])
def test_training_layout_is_the_serving_layout(with_image: bool) -> None:
    trained = build_tokenizer(training_texts(50), 300)
    serving = Tokenizer(json.loads(trained.to_str()), ModelConfig(vocab_size=1300))
    question = "How many red circles are there?"
    parts = (ImagePart(0),) * with_image + (TextPart(question),)
    builder = PromptBuilder(serving, ChatTemplate(CHAT_TEMPLATE))
    grids = [Grid(2, 3)] * with_image
    prompt = builder.build([Message("user", parts)], grids, max_positions=500)
    coder = TextCoder(trained)
    prefix = coder.prefix((2, 3) if with_image else None)
    pair = coder.pair(question, "Two.")
    assert prefix + pair.prompt == prompt.token_ids
    assert pair.answer == (*serving.encode_text("Two."), 11)
