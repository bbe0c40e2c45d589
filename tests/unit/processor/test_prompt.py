"""Prompt ids: structure, image runs, injected markers, histories, limits, odd templates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from vlm_dlm.checkpoint.model_types import SpecialTokens
from vlm_dlm.errors import CheckpointError, PromptError
from vlm_dlm.processor.chat_template import ChatTemplate
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.prompt import ImagePart, Message, Prompt, PromptBuilder, TextPart
from vlm_dlm.processor.prompt import without_thoughts as cut
from vlm_dlm.processor.tokenizer import Tokenizer

NEWLINE = 1010
INJECTIONS = [
    "<|image_pad|>",
    "<SPECIAL_100>",
    "<|im_end|>",
    "<think>",
    "<s>",
    "{{ 1 }}",
    "</think>",
]


@pytest.fixture(scope="module")
def builder(tokenizer: Tokenizer) -> PromptBuilder:
    """Holds nothing between calls; to compile its template takes longer than a call."""
    return PromptBuilder(tokenizer)


def build(
    builder: PromptBuilder, *messages: Message, grids: tuple[Grid, ...] = (), limit: int = 4096
) -> Prompt:
    return builder.build(messages, grids, max_positions=limit)


def ids_of(tokenizer: Tokenizer, *pieces: int | str) -> tuple[int, ...]:
    ids: list[int] = []
    for piece in pieces:
        ids += [piece] if isinstance(piece, int) else tokenizer.encode_text(piece)
    return tuple(ids)


def test_text_prompt_has_the_published_structure(
    builder: PromptBuilder, tokenizer: Tokenizer
) -> None:
    prompt = build(builder, Message.of("user", "Describe this image."))
    expected = ids_of(
        tokenizer,
        *(10, "system\n", 11, NEWLINE),
        *(10, "user\n", "Describe this image.", 11, NEWLINE),
        *(10, "assistant\n", 12, 13),
    )
    assert prompt == Prompt(expected, 0)


def test_thinking_leaves_the_thought_open(builder: PromptBuilder, tokenizer: Tokenizer) -> None:
    prompt = builder.build([Message.of("user", "a")], max_positions=99, enable_thinking=True)
    assert prompt.token_ids[-3:] == ids_of(tokenizer, "\n", 12, "\n")


def test_turns_keep_their_order_and_lose_their_thoughts(
    builder: PromptBuilder, tokenizer: Tokenizer
) -> None:
    prompt = build(
        builder,
        Message.of("system", "Be brief."),
        Message.of("user", "one"),
        Message.of("assistant", "<think>hm\n</think>\ntwo"),
        Message.of("user", "three"),
    )
    assert prompt.token_ids == ids_of(
        tokenizer,
        *(10, "system\nBe brief.", 11, NEWLINE),
        *(10, "user\none", 11, NEWLINE),
        *(10, "assistant\n", 12, 13, "two", 11, NEWLINE),
        *(10, "user\nthree", 11, NEWLINE),
        *(10, "assistant\n", 12, 13),
    )


@pytest.mark.parametrize("text", ["hello", "\n\nthe", "the \n", " the user\n", ""])
def test_harmless_text_has_the_ids_of_the_whole_prompt_encoded_at_once(
    builder: PromptBuilder, library: Backend, text: str
) -> None:
    rendered = ChatTemplate().render([{"role": "user", "content": text}], enable_thinking=False)
    prompt = build(builder, Message.of("user", text))
    assert list(prompt.token_ids) == library.encode(rendered, add_special_tokens=False).ids


def test_images_become_runs_in_order(builder: PromptBuilder, tokenizer: Tokenizer) -> None:
    first = Message("user", (ImagePart(0), TextPart("and"), ImagePart(1), TextPart("?")))
    last = Message("user", (TextPart("this:"), ImagePart(2)))
    grids = (Grid(2, 3), Grid(1, 1), Grid(3, 1))
    prompt = build(builder, first, Message.of("assistant", "x"), last, grids=grids)
    runs = (
        (18, 19, 19, 19, 20, 19, 19, 19, 21),
        (18, 19, 21),
        (18, 19, 20, 19, 20, 19, 21),
    )
    assert prompt.token_ids == ids_of(
        tokenizer,
        *(10, "system\n", 11, NEWLINE),
        *(10, "user\n", *runs[0], "and", *runs[1], "?", 11, NEWLINE),
        *(10, "assistant\n", 12, 13, "x", 11, NEWLINE),
        *(10, "user\nthis:", *runs[2], 11, NEWLINE),
        *(10, "assistant\n", 12, 13),
    )
    assert prompt.num_image_tokens == sum(map(len, runs))


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@settings(max_examples=60)
@given(text=st.lists(st.sampled_from(INJECTIONS) | st.text(max_size=5), max_size=6).map("".join))
def test_typed_markers_stay_text(
    builder: PromptBuilder, tokenizer: Tokenizer, role: str, text: str
) -> None:
    plain = Message("user", (ImagePart(0), TextPart(text if role == "user" else "?")))
    before = () if role == "user" else (Message.of(role, text),)  # pyright: ignore[reportArgumentType]
    prompt = build(builder, *before, plain, grids=(Grid(2, 2),))
    special = [i for i in prompt.token_ids if i in tokenizer.reserved_ids]
    turns = 1 if role == "system" else 1 + len(before)
    assert special.count(19) == 4
    assert 100 not in special
    assert 1 not in special
    assert (special.count(10), special.count(11)) == (turns + 2, turns + 1)
    assert special.count(12) == special.count(13) == (2 if role == "assistant" else 1)
    shown = cut(text, SpecialTokens()) if role == "assistant" else text
    assert shown in tokenizer.decode(prompt.token_ids)


def test_too_long_names_both_numbers(builder: PromptBuilder) -> None:
    message = Message("user", (ImagePart(0),))
    size = len(build(builder, message, grids=(Grid(9, 9),)).token_ids)
    with pytest.raises(PromptError, match=f"length is {size - 1} tokens.* in {size} tokens"):
        build(builder, message, grids=(Grid(9, 9),), limit=size - 1)


@pytest.mark.parametrize(
    ("messages", "num_grids", "said"),
    [
        ([], 0, "needs a user"),
        ([Message.of("assistant", "x")], 0, "needs a user"),
        ([Message.of("tool", "x"), Message.of("user", "x")], 0, "unknown role 'tool'"),  # pyright: ignore
        ([Message.of("user", "x"), Message.of("system", "x"), Message.of("user", "")], 0, "first"),
        ([Message("system", (ImagePart(0),)), Message.of("user", "x")], 1, "cannot hold images"),
        ([Message("user", (ImagePart(0),))], 0, r"images \[0\]; 0 were given"),
        ([Message.of("user", "x")], 1, r"images \[\]; 1 were given"),
        ([Message("user", (ImagePart(1), ImagePart(0)))], 2, "in order"),
        ([Message("user", (ImagePart(0), ImagePart(0)))], 1, "once"),
    ],
)
def test_invalid_conversations_are_refused(
    builder: PromptBuilder, messages: list[Message], num_grids: int, said: str
) -> None:
    with pytest.raises(PromptError, match=said):
        build(builder, *messages, grids=(Grid(1, 1),) * num_grids)


@pytest.mark.parametrize(
    ("template", "error", "said"),
    [
        ("hello", CheckpointError, "writes 0 of 1 message texts"),
        ("{{ messages[0].content * 2 }}", CheckpointError, "writes 2 of 1"),
        ("{{ messages[0].content }}<|image_start|>", CheckpointError, "1 image markers for 0"),
        ("{{ messages[0].content }}<SPECIAL_100>", PromptError, "mask"),
        ("{{ messages[0].content }}<|image_pad|>", PromptError, "1 tokens with id 19"),
        ("{{ raise_exception('no ' ~ messages[0].role) }}", PromptError, "conversation: no user"),
        ("{{ messages.append(1) }}", CheckpointError, "rendered"),
        ("{{ ''.__class__.__mro__ }}", CheckpointError, "rendered"),
        ("{{ 1 / 0 }}", CheckpointError, "rendered"),
        ("{% if %}", CheckpointError, "not valid"),
    ],
)
def test_odd_templates_are_reported(
    tokenizer: Tokenizer, template: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        build(PromptBuilder(tokenizer, ChatTemplate(template)), Message.of("user", "hi"))


def test_templates_render_as_elsewhere(tokenizer: Tokenizer) -> None:
    source = (
        "{%- for m in messages %}\n    {% if loop.index > 5 %}{% break %}{% endif %}\n"
        "{{ bos_token }}{{ m.content }}{{ {'a': '<é>'} | tojson }}{% endfor %}\n"
        "{% if tools is none and not enable_thinking %}{{ strftime_now('') }}{% endif %}"
    )
    prompt = build(PromptBuilder(tokenizer, ChatTemplate(source)), Message.of("user", "hi"))
    assert tokenizer.decode(prompt.token_ids, skip_special=False) == '<s>hi{"a": "<é>"}'


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("x", "x"),
        ("<think>a</think>\n\nx", "x"),
        ("a</think>x", "x"),
        ("x<think>a", "x"),
        ("<think>a</think>b<think>c</think>x <think>d", "x "),
        ("", ""),
    ],
)
def test_thoughts_are_cut(answer: str, kept: str) -> None:
    assert cut(answer, SpecialTokens()) == kept
