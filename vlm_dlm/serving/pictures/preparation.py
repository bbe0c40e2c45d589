"""Messages and untrusted image bytes to what the model reads, never on the event loop.

Needs no torch: pixels are NumPy arrays until they reach the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from PIL import Image

from vlm_dlm.errors import ImageTooLargeError, PromptError, QueueFullError
from vlm_dlm.preflight import Checkpoint, check_context
from vlm_dlm.processor.image import Grid
from vlm_dlm.processor.prompt import Message
from vlm_dlm.request import ImageInput, PromptInput
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm.serving.pictures.pixel_room import PixelRoom
from vlm_dlm.shares import Shares, share_of


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the prompt depends on besides the images."""

    messages: Sequence[Message]
    max_tokens: int | None
    enable_thinking: bool


class Preparer:
    """Decodes, tokenises and makes pixels, for a bounded number of requests and pixels at once.

    max_request_pixels: of all images of a request together, by their headers, so that a request
    over it costs no decoding. max_held_pixels: of all requests together, at the size that the model
    reads, until nobody holds them any more; others wait. max_preparing: requests in here at once,
    half of them one client's while there are others, and three quarters while there are none, so
    that the next one finds a place. Pictures at their full size exist only in the
    decoder's threads, one in each. keeps_pictures: leave them in the prompt, too, as the
    decoder gives them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        decoder: DecodePool,
        max_request_pixels: int = 80_000_000,
        max_held_pixels: int = 16_000_000,
        max_preparing: int = 64,
        num_threads: int = 2,
        keeps_pictures: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.decoder = decoder
        self.max_request_pixels = max_request_pixels
        self.keeps_pictures = keeps_pictures
        self._max_preparing = max_preparing
        self._places = Shares(max_preparing)
        self._room = PixelRoom(max_held_pixels)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="prepare")

    @property
    def num_preparing(self) -> int:
        return self._places.total

    @property
    def num_held_pixels(self) -> int:
        """Of all requests that were prepared, or are being so, and have not reached the engine."""
        return self._room.num_held

    async def prepare(
        self,
        messages: Sequence[Message],
        images: Sequence[bytes],
        max_tokens: int | None,
        enable_thinking: bool = False,
        client: str = "",
    ) -> PromptInput:
        """The prompt with its pixels, float32 arrays.

        Raises ImageError, ImageTooLargeError or ImageFormatError; PromptError, or
        ContextLengthError if prompt and answer together exceed the context; QueueFullError if too
        many requests are in here already.
        """
        if images and not self.checkpoint.processor.reads_images:
            raise PromptError(f"this model reads text only; {len(images)} images were given")
        with self._place(client):
            sizes = [await self.decoder.header_size(data) for data in images]
            self._check_total(sizes)
            preprocessor = self.checkpoint.processor.preprocessor
            ask = _Ask(messages, max_tokens, enable_thinking)
            grids = [preprocessor.grid(height, width) for width, height in sizes]
            counts = [prod(grid.resized) for grid in grids]
            await self._room.take(sum(counts), client)
            try:
                prompt = await self._prompt(ask, images, sizes, grids, client)
            except BaseException:
                self._room.give_back(sum(counts))
                raise
            for image, num_pixels in zip(prompt.images, counts, strict=True):
                self._room.give_back_with(image.pixels, num_pixels)
            return prompt

    def close(self) -> None:
        """Take nothing new. The decoder is closed by its owner."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check_total(self, sizes: Sequence[tuple[int, int]]) -> None:
        num_pixels = sum(width * height for width, height in sizes)
        if num_pixels > self.max_request_pixels:
            raise ImageTooLargeError(
                f"the {len(sizes)} images have {num_pixels} pixels together; "
                f"the limit for one request is {self.max_request_pixels} (max_request_pixels)"
            )

    @contextmanager
    def _place(self, client: str) -> Generator[None]:
        """Raises QueueFullError where there is none for this client."""
        places, limit = self._places, self._max_preparing
        num, own = places.total, places.of(client)
        if places.is_full():
            raise QueueFullError(f"{num} requests are being prepared; the limit is {limit}")
        own_limit = share_of(limit) if own < num else limit - limit // 4
        if own >= own_limit:
            raise QueueFullError(
                f"{own} of your requests are being prepared; "
                f"the limit for one client is {own_limit}"
            )
        with places.taken(client):
            yield

    async def _prompt(
        self,
        ask: _Ask,
        images: Sequence[bytes],
        sizes: Sequence[tuple[int, int]],
        grids: Sequence[Grid],
        client: str,
    ) -> PromptInput:
        """grids: by the headers. Text is tokenised for them while the pictures are decoded, and
        once more where one turns out to lie on its side."""
        loop = asyncio.get_running_loop()
        encoding = loop.run_in_executor(self._threads, self._token_ids, ask, grids)
        encoding.add_done_callback(_mark_seen)
        made: list[tuple[ImageInput, Grid]] = []
        # one after another: a request with many images must not take every child
        for data, size in zip(images, sizes, strict=True):
            if encoding.done():
                encoding.result()  # what cannot be asked is not worth decoding for
            made.append(await self.decoder.decode_to(self._made, data, size, client=client))
        found = [grid for _, grid in made]
        token_ids = await encoding
        if found != list(grids):
            token_ids = await loop.run_in_executor(self._threads, self._token_ids, ask, found)
        return PromptInput(token_ids, tuple(image for image, _ in made))

    def _made(self, picture: Image.Image) -> tuple[ImageInput, Grid]:
        """Runs in a thread."""
        preprocessor = self.checkpoint.processor.preprocessor
        grid = preprocessor.grid(picture.height, picture.width)
        pixels, content_hash = preprocessor.array(picture), preprocessor.content_hash(picture)
        kept = picture if self.keeps_pictures else None
        return ImageInput(pixels, content_hash, grid.num_pads, kept), grid

    def _token_ids(self, ask: _Ask, grids: Sequence[Grid]) -> tuple[int, ...]:
        """Runs in a thread. Raises PromptError."""
        prompt = self.checkpoint.processor.prompt(
            ask.messages, grids, enable_thinking=ask.enable_thinking
        )
        check_context(self.checkpoint, len(prompt.token_ids), ask.max_tokens)
        return prompt.token_ids


def _mark_seen(job: asyncio.Future[tuple[int, ...]]) -> None:
    """Its error needs no report where another came first."""
    if not job.cancelled():
        job.exception()
