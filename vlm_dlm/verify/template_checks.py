"""What the checkpoint's chat template makes of a conversation. Renders, tokenizes nothing."""

from __future__ import annotations

from typing import Any

from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Outcome, compared, skipped, unclear

QUESTION = "Hello"
EMPTY_SYSTEM = "<|im_start|>system\n<|im_end|>\n"
SYSTEM_OPENING = "<|im_start|>system\n"
USER_TURN = f"<|im_start|>user\n{QUESTION}<|im_end|>\n"
ANSWER_OPENING = "<|im_start|>assistant\n"
PLAIN, THINKING = "<think></think>", "<think>\n"
IMAGE_MARKER = "<|image_start|>"
NUM_SHOWN = 60


def template_file(files: CheckpointFiles) -> Outcome:
    """Whether the checkpoint ships one."""
    if files.has_template:
        return compared(True, "the checkpoint's own template is used")
    return unclear("the checkpoint ships none, so the family's built-in one is used")


def system_turn(files: CheckpointFiles) -> Outcome:
    """A conversation without a system message: is there a system turn, and is it empty?"""
    text = _rendered(files)
    start = text.removeprefix("<s>")[:NUM_SHOWN]
    if text.removeprefix("<s>").startswith(EMPTY_SYSTEM):
        return compared(True, "the prompt begins with an empty system turn")
    if text.removeprefix("<s>").startswith(SYSTEM_OPENING):
        return compared(False, f"there is a default system text: {start!r}")
    return compared(False, f"there is no system turn; the prompt begins {start!r}")


def no_bos(files: CheckpointFiles) -> Outcome:
    """Whether the template writes `<s>`."""
    text = _rendered(files)
    return compared(not text.startswith("<s>"), f"the prompt begins {text[:NUM_SHOWN]!r}")


def user_turn(files: CheckpointFiles) -> Outcome:
    """The frame of ChatML."""
    text = _rendered(files)
    return compared(USER_TURN in text, f"the question is written {_around(text)!r}")


def closed_thought(files: CheckpointFiles) -> Outcome:
    """How an answer is opened with thinking off and on."""
    ends: list[str] = []
    for is_thinking, wanted in ((False, PLAIN), (True, THINKING)):
        text = _rendered(files, enable_thinking=is_thinking)
        if not text.endswith(ANSWER_OPENING + wanted):
            ends.append(f"thinking {'on' if is_thinking else 'off'} ends {text[-NUM_SHOWN:]!r}")
    evidence = "; ".join(ends) or f"{PLAIN} with thinking off, an open {THINKING!r} with it on"
    return compared(not ends, evidence)


def image_marker(files: CheckpointFiles) -> Outcome:
    """One marker per image, at its place among the parts."""
    if files.is_text_only:
        return skipped("a text-only checkpoint")
    image = {"type": "image_url", "image_url": {"url": ""}}
    content = [image, {"type": "text", "text": QUESTION}, image]
    text = _rendered(files, content)
    wanted = f"{IMAGE_MARKER}{QUESTION}{IMAGE_MARKER}"
    return compared(wanted in text, f"two images around a text are written {_around(text)!r}")


def _rendered(
    files: CheckpointFiles, content: Any = QUESTION, enable_thinking: bool = False
) -> str:
    return files.template.render([{"role": "user", "content": content}], enable_thinking)


def _around(text: str) -> str:
    place = max(0, text.find(QUESTION) - NUM_SHOWN // 2)
    return text[place : place + NUM_SHOWN]
