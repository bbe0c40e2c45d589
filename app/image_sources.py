"""What clients write for an image, to the bytes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.errors import ApiError
from app.media.data_uri import is_data_uri, parse_data_uri
from app.state import Services
from vlm_dlm.errors import ImageError, ImageTooLargeError

URL_SCHEMES = ("http://", "https://")
THREAD_CHARS = 2**18  # longer data URIs are decoded off the event loop


async def image_contents(services: Services, sources: Sequence[bytes | str]) -> list[bytes]:
    """The files behind all sources of one request, undecoded, one after another.

    sources: contents of files, data URIs, or http(s) URLs where those are fetched. Raises
    ImageError, or ApiError for a URL where none is fetched.
    """
    limit = services.settings.max_body_bytes
    contents: list[bytes] = []
    num_bytes = 0
    for source in sources:
        content = source if isinstance(source, bytes) else await _content(services, source)
        num_bytes += len(content)
        if num_bytes > limit:
            raise ImageTooLargeError(
                f"the images have more than {limit} bytes together, which is the limit"
            )
        contents.append(content)
    return contents


async def _content(services: Services, source: str) -> bytes:
    if is_data_uri(source):
        max_bytes = services.settings.max_image_bytes
        if len(source) <= THREAD_CHARS:
            return parse_data_uri(source, max_bytes)
        return await asyncio.to_thread(parse_data_uri, source, max_bytes)
    if not source.lower().startswith(URL_SCHEMES):
        raise ImageError("an image must be a data URI of the form data:image/png;base64,...")
    if services.fetcher is None:
        raise ApiError(
            400,
            "image_urls_off",
            "this server does not fetch images; send the image itself as a data URI",
            "image_url",
        )
    return await services.fetcher.fetch(source)
