"""Decoding in children: the same pictures, hard limits, and a fresh child after every death."""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.corpus.images import encode, noise, png
from tests.integration.serving.decode_harness import (
    PATIENT_S,
    freeze,
    is_gone,
    wait_for_pid,
    with_pool,
)
from vlm_dlm import confinement
from vlm_dlm.errors import ImageError, ImageTooLargeError, UnavailableError
from vlm_dlm.processor.image_input import read_image
from vlm_dlm.serving.pictures import decode_pool
from vlm_dlm.serving.pictures.decode_cost import decode_cost
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm.serving.pictures.decode_worker import _Link
from vlm_dlm.serving.pictures.image_header import header_size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
@pytest.mark.parametrize("apply_exif", [True, False])
def test_a_child_gives_what_read_image_gives(kind: str, apply_exif: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind == "GIF" else {"exif": exif}
    data = encode(noise(40, 30), kind, **options)
    expected = read_image(data, apply_exif=apply_exif)
    picture = with_pool(lambda pool: pool.decode(data, apply_exif))
    assert (picture.mode, picture.size, picture.info) == ("RGB", expected.size, {})
    assert picture.tobytes() == expected.tobytes()
    assert not picture.getexif()


def test_a_server_without_memory_leaves_no_half_reply_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next image would be made of the rest of it."""
    read = _Link.read
    has_failed = False

    def refuse(self: _Link, num_bytes: int) -> bytearray:
        nonlocal has_failed
        if num_bytes == 40 * 30 * 3 and not has_failed:
            has_failed = True
            raise MemoryError
        return read(self, num_bytes)

    monkeypatch.setattr(_Link, "read", refuse)
    first, second = (noise(40, 30, seed) for seed in (1, 2))

    async def use(pool: DecodePool) -> Image.Image:
        with pytest.raises(MemoryError):
            await pool.decode(encode(first))
        return await pool.decode(encode(second))

    assert with_pool(use).tobytes() == second.convert("RGB").tobytes()


def test_many_images_at_once_come_back_to_their_callers() -> None:
    data = [encode(noise(20 + number, 30, number)) for number in range(12)]

    async def use(pool: DecodePool) -> list[Image.Image]:
        return await asyncio.gather(*(pool.decode(one) for one in data))

    for one, picture in zip(data, with_pool(use, num_workers=2), strict=True):
        assert picture.tobytes() == read_image(one).tobytes()


def test_only_pictures_over_16_megapixels_are_shrunk() -> None:
    small, large = (encode(Image.new("1", size)) for size in ((4000, 4000), (4004, 4000)))

    async def use(pool: DecodePool) -> list[tuple[int, int]]:
        return [(await pool.decode(data)).size for data in (small, large)]

    assert with_pool(use, max_side=1001) == [(4000, 4000), (1001, 1000)]


def peak_rss_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM in /proc/self/status")


def test_a_bomb_costs_the_caller_next_to_nothing() -> None:
    bomb = encode(Image.new("1", (13000, 13000)))
    assert len(bomb) < 25_000

    async def use(pool: DecodePool) -> int:
        await pool.decode(encode(noise(20, 20)))
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = peak_rss_kb()
        with pytest.raises(ImageError, match="13000 x 13000 = 169000000"):
            await pool.decode(bomb)
        return peak_rss_kb() - before

    assert with_pool(use) <= 5 * 1024


def test_a_lie_about_the_size_is_found_before_decoding() -> None:
    """The picture has a second header, which the decoder believes."""
    data = png(20, 20)
    ihdr = data[8:33]
    second = b"IHDR" + struct.pack(">IIBBBBB", 5000, 5000, 8, 0, 0, 0, 0)
    lie = data[:8] + ihdr + ihdr[:4] + second + struct.pack(">I", zlib.crc32(second)) + data[33:]
    assert header_size(lie) == (20, 20)
    with pytest.raises(ImageError, match="another size than its header says"):
        with_pool(lambda pool: pool.decode(lie))


def test_a_child_over_its_memory_says_so() -> None:
    data = encode(Image.new("RGBA", (4000, 4000)), compress_level=1)

    async def use(pool: DecodePool) -> tuple[int, int]:
        with pytest.raises(ImageError, match="limit of 160 MiB"):
            await pool.decode(data)
        return (await pool.decode(encode(noise(20, 20)))).size

    assert with_pool(use, memory_bytes=160 * 2**20) == (20, 20)


def test_pictures_wait_for_room_and_one_that_never_fits_is_refused() -> None:
    data = encode(noise(640, 480))
    cost = decode_cost(data, (640, 480), None)

    async def decode(room_bytes: int) -> list[Image.Image | BaseException]:
        pool = DecodePool(2, room_bytes=room_bytes, wall_s=PATIENT_S)
        seen: list[int] = []

        def make(picture: Image.Image) -> Image.Image:
            seen.append(pool.room.num_held)
            return picture

        try:
            size = await pool.header_size(data)
            return [await pool.decode_to(make, data, size) for _ in range(2)]
        finally:
            await pool.close()
            assert all(held == cost for held in seen)
            assert pool.room.num_held == 0

    assert len(asyncio.run(decode(cost))) == 2
    with pytest.raises(ImageTooLargeError, match=f"would take {cost >> 20} MiB to decode"):
        asyncio.run(decode(cost - 1))


def test_clients_take_turns_in_the_decoders() -> None:
    """Whoever sends many does not keep others waiting for all of them."""
    costly = encode(noise(1500, 1500), compress_level=1)
    small = encode(noise(20, 20))

    async def use(pool: DecodePool) -> int:
        await pool.start()
        done: list[str] = []

        async def decode(data: bytes, client: str) -> None:
            size = await pool.header_size(data)
            await pool.decode_to(lambda picture: picture.size, data, size, client=client)
            done.append(client)

        many = [asyncio.create_task(decode(costly, "greedy")) for _ in range(12)]
        while not pool._slots.num_held:
            await asyncio.sleep(0)
        await decode(small, "other")
        num_before = len(done) - 1
        await asyncio.gather(*many)
        return num_before

    assert with_pool(use, num_workers=2) <= 2


def test_one_client_has_half_of_the_decoders() -> None:
    """The other half is there for who comes next, however long its pictures take."""
    costly = encode(noise(1500, 1500), compress_level=1)

    async def use(pool: DecodePool) -> int:
        await pool.start()
        most = 0
        size = await pool.header_size(costly)
        many = [
            asyncio.create_task(pool.decode_to(lambda _: None, costly, size, client="greedy"))
            for _ in range(6)
        ]
        while not all(task.done() for task in many):
            most = max(most, pool._slots.num_held)
            await asyncio.sleep(0.001)
        return most

    assert with_pool(use, num_workers=2) == 1


def test_a_large_jpeg_is_never_there_at_its_full_size() -> None:
    data = encode(Image.new("RGB", (8000, 5000), "red"), "JPEG")

    async def use(pool: DecodePool) -> tuple[int, int]:
        picture = await pool.decode(data)
        red, _, blue = picture.getpixel((100, 100))  # type: ignore[misc]
        assert red > 240 > 20 > blue
        return picture.size

    assert with_pool(use, max_side=896, memory_bytes=300 * 2**20) == (500, 313)
    assert decode_cost(data, (8000, 5000), 896) < 64 * 2**20


@pytest.mark.parametrize("max_side", [896, 2800])
def test_photos_of_all_sizes_are_read_by_a_child_that_has_read_others(max_side: int) -> None:
    """Whatever the model's own side: those that are shrunk a lot, a little, or not at all."""
    photos = [
        encode(Image.new("RGB", size, "red"), "JPEG", **options)
        for size, options in (
            ((4800, 3600), {}),
            ((4800, 3600), {"progressive": True, "subsampling": 0}),
            ((5600, 4200), {}),
            ((7000, 5500), {}),
        )
    ]

    async def use(pool: DecodePool) -> None:
        for data in (*photos, photos[0][:-2]):
            assert max((await pool.decode(data)).size) <= max_side

    with_pool(use, max_side=max_side)


def test_cancelling_ends_the_work_at_once() -> None:
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> None:
        await pool.start()
        pid = freeze(pool)
        task = asyncio.create_task(pool.decode(data))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await wait_for_pid(pool, pid) != pid
        assert (await pool.decode(data)).size == (20, 20)
        assert pool.num_deaths == 0

    with_pool(use)


def test_cancelling_spares_a_child_that_is_done_in_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crowd that leaves at once must not cost a fresh child for each of them."""
    monkeypatch.setattr(decode_pool, "CANCEL_GRACE_S", PATIENT_S)
    data = encode(noise(20, 20))

    async def use(pool: DecodePool) -> None:
        await pool.start()
        pid = pool.pids[0]
        for _ in range(20):
            task = asyncio.create_task(pool.decode(data))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await pool.decode(data)).size == (20, 20)
        assert pool.pids == [pid]

    with_pool(use)


def test_closing_ends_children_and_fails_what_is_under_way() -> None:
    data = encode(noise(20, 20))
    pids: list[int] = []

    async def use(pool: DecodePool) -> None:
        await pool.start()
        pids.append(freeze(pool))
        tasks = [asyncio.create_task(pool.decode(data)) for _ in range(3)]
        await asyncio.sleep(0.3)
        await pool.close()
        for task in tasks:
            with pytest.raises(UnavailableError, match="cannot be decoded at the moment"):
                await task

    with_pool(use)
    assert is_gone(pids[0])


def test_the_child_cannot_open_files_and_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_DLM_API_KEYS", "secret")

    async def use(pool: DecodePool) -> None:
        await pool.start()
        status = Path(f"/proc/{pool.pids[0]}")
        limits = (status / "limits").read_text()
        for name, limit in (("address space", 2**30), ("open files", 3), ("file size", 0)):
            (line,) = (line for line in limits.splitlines() if line.startswith(f"Max {name}"))
            assert line.split()[3] == str(limit)
        assert b"secret" not in (status / "environ").read_bytes()

    with_pool(use)


def test_the_processor_limit_counts_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(confinement.resource, "setrlimit", lambda _, both: limits.append(both))
    confinement.limit_cpu(7)
    used_s = sum(os.times()[:2])
    assert used_s + 6 < limits[0][0] < used_s + 10
