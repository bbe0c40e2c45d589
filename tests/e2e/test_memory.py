"""Four pictures of 40 megapixels at once in a container: nobody is killed, and memory is left."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import pytest
from PIL import Image

from tests.e2e.memory_group import MemoryGroup, NoGroups
from tests.e2e.server import Server
from tests.e2e.workload import MODES, chat, data_uri, pictures

pytestmark = pytest.mark.alone


# The compose file's.
LIMIT = 2 * 2**30
# Two of the pictures decoded at once, which its limits allow where there is more, take more.
MOST = LIMIT * 4 // 5
NUM_ANSWERS = 16


def large(kind: str, **options: object) -> str:
    """40 megapixels."""
    stream = BytesIO()
    Image.linear_gradient("L").resize((8000, 5000)).convert("RGB").save(stream, kind, **options)
    return data_uri(stream.getvalue())


def test_large_pictures_at_once_do_not_end_the_engine() -> None:
    try:
        group = MemoryGroup(LIMIT)
    except NoGroups as error:
        pytest.skip(str(error))
    images = [large("WEBP", method=0)] * 3
    images.append(large("JPEG", progressive=True, subsampling=0))
    with group, Server(page=True, spare_engine=True, enter=group.enter) as server:
        engines = server.engines()
        with (
            group.watched(),
            httpx.Client(base_url=server.base_url, timeout=120, trust_env=False) as client,
            ThreadPoolExecutor(12) as threads,
        ):

            def ask(number: int) -> int:
                mode = MODES[number % len(MODES)]
                body = chat(
                    (pictures(NUM_ANSWERS)[number],), mode=mode, is_streamed=False, max_tokens=16
                )
                return client.post("/v1/chat/completions", json=body).status_code

            def ask_large(image: str) -> int:
                body = chat((image,), is_streamed=False, max_tokens=4)
                return client.post("/v1/chat/completions", json=body).status_code

            assert Counter(threads.map(ask, range(NUM_ANSWERS))) == {200: NUM_ANSWERS}
            assert list(threads.map(ask_large, images)) == [200] * 4
        assert group.num_kills == 0
        assert server.engines() == engines
        assert group.peak_bytes < MOST
