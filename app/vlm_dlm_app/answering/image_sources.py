"""What clients write for an image, to the bytes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from vlm_dlm.errors import ImageError, ImageTooLargeError
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.media.data_uri import FORM, is_data_uri, parse_base64, parse_data_uri
from vlm_dlm_app.state import Services

URL_SCHEMES = ("http://", "https://")
THREAD_CHARS = 2**18  # longer data URIs are decoded off the event loop


class PictureFile(Protocol):
    """A picture that this server keeps, read when it is needed."""

    @property
    def num_bytes(self) -> int:
        """Of the file."""
        ...

    def read(self) -> bytes:
        """Its content. Blocking. Raises ApiError where it is no longer there."""
        ...


Source = bytes | str | PictureFile


def fetch_place(
    services: Services, sources: Sequence[Source], client: str
) -> AbstractContextManager[None]:
    """A place among those who may fetch: taken before `image_contents`, kept while its files are
    held.

    Nothing to fetch needs none. Raises QueueFullError when it is entered.
    """
    if services.fetcher is None or not any(map(is_url, sources)):
        return nullcontext()
    return services.fetcher.place(client)


async def image_contents(services: Services, sources: Sequence[Source]) -> list[bytes]:
    """The files behind all sources of one request, undecoded, one after another.

    sources: contents of files, files of this server, data URIs, base64, or http(s) URLs where those
    are fetched. Raises ImageError, or ApiError for a URL where none is fetched.
    """
    limit = services.settings.max_body_bytes
    fetcher = services.fetcher
    ends_s = None if fetcher is None else fetcher.new_deadline()  # one for all of them
    contents: list[bytes] = []
    num_bytes = 0
    for source in sources:
        if isinstance(source, bytes):
            content = source
        elif isinstance(source, str):
            content = await _content(services, source, ends_s)
        else:
            content = await asyncio.to_thread(source.read)
        num_bytes += len(content)
        if num_bytes > limit:
            raise ImageTooLargeError(
                f"the images have more than {limit} bytes together, "
                "which is the limit (max_body_bytes)"
            )
        contents.append(content)
    return contents


def is_url(source: object) -> bool:
    """Whether it names something to fetch."""
    return isinstance(source, str) and source[:8].lower().startswith(URL_SCHEMES)


async def _content(services: Services, source: str, ends_s: float | None) -> bytes:
    if is_url(source):
        if services.fetcher is None:
            raise ApiError(
                "image_urls_off",
                "this server does not fetch images; send the image itself as a data URI, "
                "or have allow_image_urls set",
                "image_url",
            )
        if source[:7].lower() == "http://" and not services.settings.allow_http_urls:
            message = "this server fetches images by https alone, unless allow_http_urls is set"
            raise ApiError("image_urls_off", message, "image_url")
        return await services.fetcher.fetch(source, ends_s)
    max_bytes = services.settings.max_image_bytes
    if len(source) <= THREAD_CHARS:
        return _written(source, max_bytes)
    return await asyncio.to_thread(_written, source, max_bytes)


def _written(source: str, max_bytes: int) -> bytes:
    """The file that is written out in the request itself."""
    if is_data_uri(source):
        return parse_data_uri(source, max_bytes)
    content = parse_base64(source, max_bytes)
    if content is None:
        raise ImageError(f"an image must be a data URI of the form {FORM}, or base64")
    return content
