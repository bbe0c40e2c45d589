"""From messages and image bytes to the model's input, off the event loop and within bounds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

from tests.corpus.images import encode, noise, png
from vlm_dlm.errors import ImageError, ImageTooLargeError, PromptError, QueueFullError
from vlm_dlm.preflight import Checkpoint, conversation, open_checkpoint
from vlm_dlm.processor.prompt import Message
from vlm_dlm.request import GenerationRequest, PromptInput
from vlm_dlm.runtime import Runtime
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm.serving.pictures.preparation import Preparer

T = TypeVar("T")


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return open_checkpoint(tiny_checkpoint)


def picture(width: int = 56, height: int = 30, color: str = "red") -> bytes:
    return encode(Image.new("RGB", (width, height), color))


def with_preparer(
    checkpoint: Checkpoint, use: Callable[[Preparer], Awaitable[T]], **options: Any
) -> T:
    async def run() -> T:
        pool = DecodePool(1, wall_s=120.0)
        preparer = Preparer(checkpoint, pool, **options)
        try:
            return await use(preparer)
        finally:
            preparer.close()
            await pool.close()

    return asyncio.run(run())


def prepare(
    checkpoint: Checkpoint,
    messages: Sequence[Message],
    images: Sequence[bytes],
    max_tokens: int = 8,
    **options: Any,
) -> PromptInput:
    return with_preparer(
        checkpoint, lambda preparer: preparer.prepare(messages, images, max_tokens), **options
    )


def test_the_input_is_the_one_the_library_makes(checkpoint: Checkpoint) -> None:
    images = [picture(), picture(90, 200, "blue")]
    prompt = prepare(checkpoint, conversation("What is this?", 2), images)
    runtime = Runtime.load(checkpoint, device="cpu")
    expected = runtime.inputs(runtime.prompt("What is this?", images))
    runtime.close()
    assert prompt.key == expected.key
    assert prompt.num_image_tokens == expected.num_image_tokens
    for ours, theirs in zip(prompt.images, expected.images, strict=True):
        assert torch.equal(torch.as_tensor(ours.pixels), theirs.pixels)


def test_pictures_are_kept_only_for_who_makes_pixels_itself(checkpoint: Checkpoint) -> None:
    images = [picture(90, 200, "blue")]
    (plain,) = prepare(checkpoint, conversation("What?", 1), images).images
    assert plain.picture is None
    (kept,) = prepare(checkpoint, conversation("What?", 1), images, keeps_pictures=True).images
    assert kept.picture.size == (90, 200)
    again = checkpoint.processor.preprocessor.array(kept.picture)
    assert np.array_equal(again, kept.pixels)
    request = GenerationRequest("one", PromptInput((1,), (kept,))).without_pixels()
    assert request.prompt.images[0].picture is None


def test_text_alone_needs_no_child(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> None:
        prompt = await preparer.prepare([Message.of("user", "Hello")], [], 8)
        assert prompt.token_ids
        assert prompt.images == ()
        assert preparer.decoder.pids == []

    with_preparer(checkpoint, use)


def test_what_exceeds_the_context_is_refused_with_both_numbers(checkpoint: Checkpoint) -> None:
    limit = checkpoint.config.max_position_embeddings
    messages = conversation("What is this?", 1)
    num_prompt = len(prepare(checkpoint, messages, [picture()]).token_ids)
    prepare(checkpoint, messages, [picture()], max_tokens=limit - num_prompt)
    with pytest.raises(
        PromptError, match=f"length is {limit} tokens.* \\({num_prompt} in the messages"
    ):
        prepare(checkpoint, messages, [picture()], max_tokens=limit - num_prompt + 1)


def test_images_and_messages_must_agree(checkpoint: Checkpoint) -> None:
    with pytest.raises(PromptError):
        prepare(checkpoint, conversation("What is this?", 2), [picture()])


def test_the_pixel_budget_is_checked_before_any_decoding(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> None:
        with pytest.raises(ImageTooLargeError, match="3 images have 80020000 pixels together"):
            await preparer.prepare(
                conversation("?", 3), [png(6000, 6000)] * 2 + [png(2000, 4010)], 8
            )
        assert preparer.decoder.pids == []
        assert preparer.num_preparing == 0

    with_preparer(checkpoint, use)


def test_a_model_without_eyes_refuses_images_before_any_decoding(checkpoint: Checkpoint) -> None:
    blind = replace(checkpoint, processor=replace(checkpoint.processor, reads_images=False))

    async def use(preparer: Preparer) -> None:
        with pytest.raises(PromptError, match="reads text only; 1 images were given"):
            await preparer.prepare(conversation("?", 1), [picture()], 8)
        assert preparer.decoder.pids == []

    with_preparer(blind, use)


def test_a_bad_image_among_good_ones_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ImageError, match="supported format"):
        prepare(checkpoint, conversation("?", 2), [picture(), b"<svg/>"])


def test_too_many_at_once_are_turned_away(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> None:
        messages = conversation("What is this?", 1)
        tasks = [asyncio.create_task(preparer.prepare(messages, [picture()], 8)) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(QueueFullError) == 1
        assert preparer.num_preparing == 0
        assert (await preparer.prepare(messages, [picture()], 8)).images

    with_preparer(checkpoint, use, max_preparing=2)


def test_cancelling_leaves_nothing_behind(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> None:
        messages = conversation("What is this?", 1)
        tasks = [asyncio.create_task(preparer.prepare(messages, [picture()], 8)) for _ in range(6)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert preparer.num_preparing == 0
        assert (await preparer.prepare(messages, [picture()], 8)).images

    with_preparer(checkpoint, use, max_held_pixels=4000)


def test_the_event_loop_stays_free(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> float:
        await preparer.prepare(conversation("?", 1), [picture()], 8)
        data = encode(noise(3800, 4000), "JPEG")
        task = asyncio.create_task(preparer.prepare(conversation("?", 1), [data], 8))
        start_s = last_s = perf_counter()
        longest_s = 0.0
        while not task.done():
            await asyncio.sleep(0.002)
            now_s = perf_counter()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s
        assert len((await task).images) == 1
        return longest_s / (last_s - start_s)

    # a loop that waited for the work would have one gap as long as all of it
    assert with_preparer(checkpoint, use) < 0.5


def test_nothing_of_it_needs_torch(tiny_checkpoint: Path) -> None:
    code = """
import asyncio, sys
from io import BytesIO
from pathlib import Path
from PIL import Image
from vlm_dlm.preflight import conversation, open_checkpoint
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm.serving.pictures.preparation import Preparer

async def run():
    stream = BytesIO()
    Image.new("RGB", (100, 50)).save(stream, "PNG")
    pool = DecodePool(1)
    preparer = Preparer(open_checkpoint(Path(sys.argv[1])), pool)
    await preparer.prepare(conversation("?", 1), [stream.getvalue()], 8)
    preparer.close()
    await pool.close()

asyncio.run(run())
print([name for name in ("torch", "transformers") if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(tiny_checkpoint)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_pixels_keep_their_room_until_nobody_holds_them(checkpoint: Checkpoint) -> None:
    async def use(preparer: Preparer) -> None:
        messages = conversation("?", 2)
        prompt = await preparer.prepare(messages, [picture(), picture(90, 200)], 8)
        num_pixels = sum(image.pixels[0].size for image in prompt.images)
        assert preparer.num_held_pixels == num_pixels
        waiting = asyncio.create_task(preparer.prepare(messages, [picture()] * 2, 8))
        await asyncio.sleep(0.2)
        assert not waiting.done(), "there is no room"
        await preparer.prepare([Message.of("user", "Hello")], [], 8)
        one = prompt.images[0]
        del prompt
        assert len((await waiting).images) == 2, "the other one is gone"
        del one, waiting
        async with asyncio.timeout(5.0):
            while preparer.num_held_pixels:
                await asyncio.sleep(0.01)
        with pytest.raises(ImageError):
            await preparer.prepare(messages, [picture(), b"<svg/>"], 8)
        with pytest.raises(PromptError):
            await preparer.prepare(conversation("?", 3), [picture()], 8)
        assert preparer.num_held_pixels == 0, "nothing was made of them"

    with_preparer(checkpoint, use, max_held_pixels=9500)


def test_one_client_holds_half_of_the_places_while_there_are_others(
    checkpoint: Checkpoint,
) -> None:
    async def use(preparer: Preparer) -> None:
        messages = conversation("?", 1)

        def start(client: str) -> asyncio.Task[PromptInput]:
            return asyncio.create_task(preparer.prepare(messages, [picture()], 8, client=client))

        tasks = [start(client) for client in ("other", "greedy", "greedy", "greedy", "other")]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(PromptInput) == 4
        with pytest.raises(QueueFullError, match="limit for one client is 2"):
            raise next(result for result in results if isinstance(result, Exception))
        alone = [start("greedy") for _ in range(4)]
        await asyncio.sleep(0)
        assert (await start("other")).images, "one client alone leaves a place for the next"
        results = await asyncio.gather(*alone, return_exceptions=True)
        assert [type(result) for result in results].count(PromptInput) == 3

    with_preparer(checkpoint, use, max_preparing=4)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_on_its_side_gets_its_own_prompt(
    checkpoint: Checkpoint, orientation: int
) -> None:
    """Tokenised for the grid of its header at first, which is another one."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.new("RGB", (120, 40), "red"), "JPEG", exif=exif)
    upright = picture(40, 120) if orientation == 6 else picture(120, 40)
    messages = conversation("What is this?", 1)
    ours, theirs = (prepare(checkpoint, messages, [one]) for one in (data, upright))
    assert ours.token_ids == theirs.token_ids
    assert ours.images[0].pixels.shape == theirs.images[0].pixels.shape
