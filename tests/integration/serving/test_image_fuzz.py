"""Changed bytes at random: a picture or our error, from a child that goes on living."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter

import pytest

from tests.corpus import damaged, foreign, metadata, modes, sizes
from tests.corpus.cases import corpus
from tests.corpus.images import animation, flipped, picture
from vlm_dlm.errors import ImageError
from vlm_dlm.serving.pictures.decode_pool import DecodePool

NUM_SEEDS = 40
PATIENT_S = 60.0
SOURCES = {
    "PNG": picture("PNG", 24, 20),
    "JPEG": picture("JPEG", 24, 20),
    "progressive JPEG": picture("JPEG", 24, 20, progressive=True),
    "WebP": picture("WEBP", 24, 20),
    "lossless WebP": picture("WEBP", 24, 20, lossless=True),
    "GIF": picture("GIF", 24, 20),
    "BMP": picture("BMP", 24, 20),
    "TIFF": picture("TIFF", 24, 20, compression="tiff_lzw"),
    "AVIF": picture("AVIF", 24, 20),
    "moving PNG": animation("PNG", 2),
}


def test_changed_bytes_give_a_picture_or_our_error() -> None:
    async def run() -> tuple[Counter[str], int]:
        pool = DecodePool(2, wall_s=PATIENT_S)
        outcomes: Counter[str] = Counter()
        sentences: list[str] = []

        async def decode(data: bytes) -> None:
            try:
                picture = await pool.decode(data)
                assert picture.mode == "RGB"
                outcomes["picture"] += 1
            except ImageError as error:
                outcomes[type(error).__name__] += 1
                sentences.append(str(error))

        for data in SOURCES.values():
            await asyncio.gather(*(decode(flipped(data, seed)) for seed in range(NUM_SEEDS)))
            await asyncio.gather(*(decode(flipped(data, seed, 1)) for seed in range(NUM_SEEDS)))
        await pool.close()
        assert all(sentence.startswith("the image ") for sentence in sentences)
        return outcomes, pool.num_deaths

    outcomes, num_deaths = asyncio.run(run())
    assert outcomes.total() == 2 * NUM_SEEDS * len(SOURCES)
    assert min(outcomes["picture"], outcomes["ImageError"]) > 50
    assert num_deaths == 0


@pytest.mark.parametrize("group", [damaged, foreign, metadata, modes, sizes])
def test_the_corpus_is_the_same_every_time(group: object) -> None:
    def digest() -> str:
        files = (data for _, named in group.groups() for _, data in named)  # type: ignore[attr-defined]
        return hashlib.sha256(b"".join(files)).hexdigest()

    assert digest() == digest()


def test_the_corpus_is_large_and_its_names_tell_its_files_apart() -> None:
    cases = corpus()
    assert len(cases) >= 150
    assert len({case.name for case in cases}) == len(cases)
    assert {status for case in cases for status in case.statuses} == {200, 400, 413, 415}
