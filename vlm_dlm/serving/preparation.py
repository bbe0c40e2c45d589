"""Messages and untrusted image bytes to what the model reads, never on the event loop.

Needs no torch: pixels are NumPy arrays until they reach the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from math import prod

from PIL import Image

from vlm_dlm.errors import ImageTooLargeError, PromptError, QueueFullError
from vlm_dlm.preflight import Checkpoint, check_context
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.prompt import Message
from vlm_dlm.request import ImageInput, PromptInput
from vlm_dlm.serving.decode_pool import DecodePool


class Preparer:
    """Decodes, tokenises and makes pixels, for a bounded number of requests and pixels at once.

    max_request_pixels: of all images of a request together, by their headers, so that a request
    over it costs no decoding. max_held_pixels: of all requests together, at the size that the model
    reads; more wait. max_preparing: requests in here at once. Pictures at their full size exist
    only in the decoder's threads, one in each.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        decoder: DecodePool,
        max_request_pixels: int = 80_000_000,
        max_held_pixels: int = 16_000_000,
        max_preparing: int = 64,
        num_threads: int = 2,
    ) -> None:
        self.checkpoint = checkpoint
        self.decoder = decoder
        self.max_request_pixels = max_request_pixels
        self.max_preparing = max_preparing
        self.num_preparing = 0
        self._room = PixelRoom(max_held_pixels)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="prepare")

    async def prepare(
        self,
        messages: Sequence[Message],
        images: Sequence[bytes],
        max_tokens: int,
        enable_thinking: bool = False,
    ) -> PromptInput:
        """The prompt with its pixels, float32 arrays.

        Raises ImageError, ImageTooLargeError or ImageFormatError; PromptError if prompt and answer
        together exceed the context; QueueFullError if too many requests are in here already.
        """
        if self.num_preparing >= self.max_preparing:
            raise QueueFullError(
                f"{self.num_preparing} requests are being prepared; "
                f"the limit is {self.max_preparing}"
            )
        if images and not self.checkpoint.processor.reads_images:
            raise PromptError(f"this model reads text only; {len(images)} images were given")
        self.num_preparing += 1
        try:
            sizes = [await self.decoder.header_size(data) for data in images]
            self._check_total(sizes)
            async with self._room.hold(self._num_held(sizes)):
                # one after another: a request with many images must not take every child
                made = [
                    await self.decoder.decode_to(self._made, data, size)
                    for data, size in zip(images, sizes, strict=True)
                ]
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._input, messages, made, max_tokens, enable_thinking
                )
        finally:
            self.num_preparing -= 1

    def close(self) -> None:
        """Take nothing new. The decoder is closed by its owner."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check_total(self, sizes: Sequence[tuple[int, int]]) -> None:
        num_pixels = sum(width * height for width, height in sizes)
        if num_pixels > self.max_request_pixels:
            raise ImageTooLargeError(
                f"the {len(sizes)} images have {num_pixels} pixels together; "
                f"the limit for one request is {self.max_request_pixels}"
            )

    def _num_held(self, sizes: Sequence[tuple[int, int]]) -> int:
        preprocessor = self.checkpoint.processor.preprocessor
        return sum(prod(preprocessor.grid(height, width).resized) for width, height in sizes)

    def _made(self, picture: Image.Image) -> tuple[ImageInput, Grid]:
        """Runs in a thread."""
        preprocessor = self.checkpoint.processor.preprocessor
        grid = preprocessor.grid(picture.height, picture.width)
        pixels, content_hash = preprocessor.array(picture), preprocessor.content_hash(picture)
        return ImageInput(pixels, content_hash, grid.num_pads), grid

    def _input(
        self,
        messages: Sequence[Message],
        made: Sequence[tuple[ImageInput, Grid]],
        max_tokens: int,
        enable_thinking: bool,
    ) -> PromptInput:
        """Runs in a thread."""
        prompt = self.checkpoint.processor.prompt(
            messages, [grid for _, grid in made], enable_thinking=enable_thinking
        )
        check_context(self.checkpoint, len(prompt.token_ids), max_tokens)
        return PromptInput(prompt.token_ids, tuple(image for image, _ in made))


class PixelRoom:
    """Bounds the pixels held at once. First come first served; one request alone always fits."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_held = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, num_pixels: int) -> AsyncGenerator[None]:
        """Wait for room and keep it. Nothing to hold never waits."""
        if num_pixels:
            async with self._turn:  # a fair lock: only the first in line waits for room
                while self.num_held and self.num_held + num_pixels > self.capacity:
                    self._freed.clear()
                    await self._freed.wait()
                self.num_held += num_pixels
        try:
            yield
        finally:
            self.num_held -= num_pixels
            self._freed.set()
