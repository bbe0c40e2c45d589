"""Colours that TIFF files hold in their own way: what is read of them, and what is not."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, TiffImagePlugin, features

from vlm_dlm.errors import ImageFormatError

_PHOTOMETRIC, _YCBCR = 262, 6
_REQUIRED = {256, 257, 258, _PHOTOMETRIC}  # width, height, bits
_PLACES = ((273, 279), (324, 325))  # of strips or tiles: where each begins, and its length
_BIG = 43  # a file with 64-bit offsets


def unpack_by_libtiff(image: Image.Image) -> None:
    """Have libtiff read YCbCr that is stored unpacked. Pillow alone would take four bytes for each
    pixel, where there are three or, with colours shared by neighbours, fewer."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.use_load_libtiff:
        return
    if image.tag_v2.get(_PHOTOMETRIC) != _YCBCR or image.mode != "RGB" or not image.tile:
        return
    ends = [tile.extents or (0, 0, 0, 0) for tile in image.tile]
    extents = (0, 0, max(end[2] for end in ends), max(end[3] for end in ends))
    args = ("RGBX", "raw", False, image.tag_v2.offset)
    whole = image.tile[0]._replace(codec_name="libtiff", extents=extents, offset=0, args=args)
    image.tile, image.use_load_libtiff = [whole], True


def is_without_rule(data: bytes) -> bool:
    """Whether a TIFF that does not open is whole, and Pillow has no rule for its colours, depth or
    packing."""
    try:
        if not _is_whole(data):
            return False
        TiffImagePlugin.TiffImageFile(BytesIO(data)).close()
    except SyntaxError as error:  # so its tables say that they have no such entry
        return isinstance(error.__cause__, KeyError)
    except Exception:  # header parsers raise many types on hostile bytes; none may pass
        return False
    return False


def _is_whole(data: bytes) -> bool:
    """Whether the first directory says what it must, and all pixels lie in the file."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2] == _BIG else 8])
    file = BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    places = next(pair for pair in _PLACES if pair[0] in tags)
    ends = [start + length for start, length in zip(*(tags[tag] for tag in places), strict=True)]
    return set(tags) >= _REQUIRED and max(ends) <= len(data)


def check_lab(image: Image.Image, name: str) -> None:
    """Raises ImageFormatError for LAB where Pillow was built without what reads it."""
    if image.mode == "LAB" and not features.check("littlecms2"):
        raise unsupported(name)


def unsupported(name: str) -> ImageFormatError:
    """What is said of a good file of a kind that is not read."""
    return ImageFormatError(
        f"{name} is a TIFF whose way to store or pack its colours is not supported; "
        "save it as RGB with 8 bits for each colour"
    )
