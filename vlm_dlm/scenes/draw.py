"""Pixels of object scenes: colours, glyphs, shapes and backgrounds in many styles.

The style is random on purpose: a model trained on it must read images drawn by other programs.
What the image shows is decided in `scenes`; nothing here changes a caption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlm_dlm.scenes.scenes import Box, SceneObject, pick, pick_weighted
from vlm_dlm.scenes.shapes import Points, shape_points

RGB = tuple[int, int, int]

# Values in use for each name: pure, CSS, matplotlib, material. Hues never cross between names.
OBJECT_RGB: dict[str, tuple[RGB, ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (214, 39, 40), (244, 67, 54), (229, 57, 53), (205, 0, 0)),
    "green": ((0, 128, 0), (0, 255, 0), (44, 160, 44), (76, 175, 80), (34, 139, 34), (0, 190, 0)),
    "blue": ((0, 0, 255), (31, 119, 180), (33, 150, 243), (30, 144, 255), (65, 105, 225)),
    "yellow": ((255, 255, 0), (255, 215, 0), (255, 235, 59), (241, 200, 15), (250, 225, 0)),
    "orange": ((255, 165, 0), (255, 127, 14), (255, 152, 0), (255, 140, 0), (245, 124, 0)),
    "purple": ((128, 0, 128), (148, 103, 189), (156, 39, 176), (138, 43, 226), (106, 13, 173)),
    "pink": ((255, 192, 203), (255, 105, 180), (227, 119, 194), (240, 98, 146), (255, 20, 147)),
    "brown": ((165, 42, 42), (139, 69, 19), (140, 86, 75), (121, 85, 72), (150, 75, 0)),
    "black": ((0, 0, 0), (0, 0, 0), (25, 25, 25), (33, 33, 33)),
    "white": ((255, 255, 255), (255, 255, 255), (248, 248, 248)),
    "gray": ((128, 128, 128), (127, 127, 127), (150, 150, 150), (110, 110, 110)),
    "cyan": ((0, 255, 255), (23, 190, 207), (0, 188, 212), (0, 210, 225)),
}
BACKGROUND_RGB: dict[str, tuple[RGB, ...]] = {
    "white": ((255, 255, 255), (255, 255, 255), (255, 255, 255), (249, 249, 249), (252, 250, 248)),
    "black": ((0, 0, 0), (0, 0, 0), (12, 12, 12), (20, 20, 20)),
    "gray": ((200, 200, 200), (211, 211, 211), (192, 192, 192), (128, 128, 128), (170, 170, 170)),
    "light blue": ((173, 216, 230), (200, 225, 255), (187, 222, 251), (135, 206, 235)),
    "light yellow": ((255, 250, 205), (255, 255, 200), (255, 249, 190), (255, 255, 215)),
    "light green": ((144, 238, 144), (200, 230, 201), (205, 245, 205), (152, 251, 152)),
    "pink": ((255, 192, 203), (255, 182, 193), (248, 195, 220), (252, 210, 222)),
    "dark blue": ((0, 0, 128), (25, 25, 112), (0, 0, 139), (20, 30, 85)),
    "blue": ((0, 0, 255), (30, 100, 220), (25, 118, 210), (65, 105, 225)),
    "green": ((0, 128, 0), (56, 142, 60), (0, 100, 0), (46, 139, 60)),
    "yellow": ((255, 255, 0), (255, 225, 50), (255, 215, 0)),
    "red": ((255, 0, 0), (200, 30, 40), (211, 47, 47)),
}
_MIN_SHAPE_CONTRAST, _MIN_TEXT_CONTRAST = 80.0, 130.0  # Euclidean distance in RGB

_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "C:/Windows/Fonts",
)
_UNSUITABLE_FONTS = (
    "extralight",
    "thin",
    "math",
    "symbol",
    "emoji",
    "icon",
    "wingding",
    "webding",
    "dingbat",
    "music",
)
_BUILT_IN_FONT = ""
_MEASURE_SIZE = 100  # font size at which glyph metrics are cached


@dataclass(frozen=True, slots=True)
class Style:
    """How one image is drawn; chosen once per image."""

    supersampling: int  # 1 draws hard edges
    outline: str  # "none", "dark", "hue" or "light"
    outline_width: float  # relative to the object's diameter
    font: str  # path, or _BUILT_IN_FONT
    is_font_mixed: bool  # another font for every text
    is_text_distorted: bool  # stretched, slanted or thickened glyphs


def sample_style(rng: np.random.Generator) -> Style:
    """A random drawing style."""
    return Style(
        supersampling=pick_weighted(rng, (1, 2, 3, 4), (0.25, 0.25, 0.25, 0.25)),
        outline=pick_weighted(rng, ("none", "dark", "hue", "light"), (0.6, 0.24, 0.12, 0.04)),
        outline_width=float(rng.uniform(0.015, 0.06)),
        font=_sample_font(rng),
        is_font_mixed=rng.random() < 0.3,
        is_text_distorted=rng.random() < 0.35,
    )


def _sample_font(rng: np.random.Generator) -> str:
    return _BUILT_IN_FONT if rng.random() < 0.2 else pick(rng, available_fonts())


@lru_cache(maxsize=1)
def available_fonts() -> tuple[str, ...]:
    """Usable TrueType files of the system, sorted, with the built-in font first."""
    found = {
        str(path)
        for folder in _FONT_FOLDERS
        for path in Path(folder).expanduser().rglob("*.[to]tf")
        if not any(word in path.name.lower() for word in _UNSUITABLE_FONTS)
    }
    return (_BUILT_IN_FONT, *(path for path in sorted(found)[:200] if _draws_latin(path)))


def _draws_latin(path: str) -> bool:
    """Whether all capitals and digits have distinct, visible glyphs."""
    try:
        font = load_font(path, 20)
        masks = (font.getmask(char) for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        glyphs = {np.array(mask, dtype=np.uint8).tobytes() for mask in masks}
    except (OSError, ValueError):
        return False
    return len(glyphs) >= 33 and all(any(glyph) for glyph in glyphs)


@lru_cache(maxsize=2048)
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A cached font; the empty path is Pillow's built-in one."""
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@lru_cache(maxsize=8192)
def _text_extent(path: str, text: str) -> tuple[float, float]:
    """Ink width and height of `text` in units of the font size."""
    left, top, right, bottom = load_font(path, _MEASURE_SIZE).getbbox(text)
    return (right - left) / _MEASURE_SIZE, (bottom - top) / _MEASURE_SIZE


def _jitter(rng: np.random.Generator, rgb: RGB, amount: int) -> RGB:
    shifts = rng.integers(-amount, amount + 1, 3).tolist()
    red, green, blue = (
        min(255, max(0, value + shift)) for value, shift in zip(rgb, shifts, strict=True)
    )
    return red, green, blue


def sample_rgb(rng: np.random.Generator, colour: str, backdrop: RGB, is_text: bool = False) -> RGB:
    """A value of the named colour that stands out from `backdrop`."""
    wanted = _MIN_TEXT_CONTRAST if is_text else _MIN_SHAPE_CONTRAST
    best: RGB = backdrop
    for _ in range(8):
        rgb = pick(rng, OBJECT_RGB[colour])
        if rng.random() < 0.5:
            rgb = _jitter(rng, rgb, 8)
        if math.dist(rgb, backdrop) > math.dist(best, backdrop):
            best = rgb
        if math.dist(rgb, backdrop) >= wanted:
            return rgb
    return best


def draw_background(
    rng: np.random.Generator, name: str, size: tuple[int, int]
) -> tuple[Image.Image, RGB]:
    """A plain or softly shaded canvas, and its mean colour."""
    rgb = pick(rng, BACKGROUND_RGB[name])
    if name not in ("white", "black") and rng.random() < 0.5:
        rgb = _jitter(rng, rgb, 6)
    if rng.random() > 0.12:
        return Image.new("RGB", size, rgb), rgb
    corners = Image.new("RGB", (2, 2))
    for x, y in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shift = int(rng.integers(-7, 8))
        corners.putpixel((x, y), tuple(min(255, max(0, value + shift)) for value in rgb))
    return corners.resize(size, Image.Resampling.BILINEAR), rgb


def draw_object(
    image: Image.Image, item: SceneObject, backdrop: RGB, style: Style, rng: np.random.Generator
) -> None:
    """Draw a shape, word or number onto `image` in the given style."""
    rgb = sample_rgb(rng, item.colour, backdrop, item.kind != "shape")
    if item.kind != "shape":
        draw_text(image, item.what, item.box, rgb, style, rng)
        return
    outer, inner = _shape_masks(item, style, rng)
    corner = (math.floor(item.box[0]) - 1, math.floor(item.box[1]) - 1)
    if inner is not None:
        image.paste(_outline_rgb(style.outline, rgb), corner, outer)
    image.paste(rgb, corner, outer if inner is None else inner)


def _outline_rgb(outline: str, rgb: RGB) -> RGB:
    if outline == "hue":
        red, green, blue = (int(value * 0.65) for value in rgb)
        return red, green, blue
    return (20, 20, 20) if outline == "dark" else (235, 235, 235)


def _shape_masks(
    item: SceneObject, style: Style, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image | None]:
    """Coverage of the whole shape and, if it is outlined, of its fill; one pixel of margin."""
    left, top, right, _ = item.box
    extent = right - left
    factor = min(style.supersampling, 2) if extent > 110 else style.supersampling
    side = math.ceil(extent) + 3
    x0 = (left - math.floor(left) + 1) * factor
    y0 = (top - math.floor(top) + 1) * factor
    # An outline would eat up the thin parts of a small shape.
    is_plain = style.outline == "none" or extent < (18 if style.outline != "light" else 40)
    width = 0.0 if is_plain else max(1.0, style.outline_width * extent) * factor
    mask = Image.new("L", (side * factor, side * factor))
    box = (x0, y0, x0 + extent * factor, y0 + extent * factor)
    if item.what in ("circle", "ring"):
        hole = rng.uniform(0.5, 0.72) if item.what == "ring" else 0.0
        inner = _draw_disc(mask, box, float(hole), width)
    else:
        points = shape_points(item.what, rng)
        cx, cy, scale = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, extent * factor
        inner = _draw_polygon(mask, [(cx + x * scale, cy + y * scale) for x, y in points], width)
    if factor == 1:
        return mask, inner
    return mask.reduce(factor), inner and inner.reduce(factor)


def _draw_disc(mask: Image.Image, box: Box, hole: float, width: float) -> Image.Image | None:
    """Fill a disc or ring into `mask`; return the fill inside an outline of `width`, if any."""
    radius = (box[2] - box[0]) / 2

    def fill(target: Image.Image, inset: float) -> None:
        draw = ImageDraw.Draw(target)
        draw.ellipse([box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset], fill=255)
        if hole:
            rim = radius * (1 - hole) - inset
            draw.ellipse([box[0] + rim, box[1] + rim, box[2] - rim, box[3] - rim], fill=0)

    inner = Image.new("L", mask.size) if width and width < radius * (1 - hole) / 4 else None
    fill(mask, 0.0)
    if inner is not None:
        fill(inner, width)
    return inner


def _draw_polygon(mask: Image.Image, points: Points, width: float) -> Image.Image | None:
    """Fill a polygon into `mask`; return the fill inside an outline of `width`, if any."""
    ImageDraw.Draw(mask).polygon(points, fill=255)
    if not width:
        return None
    inner = mask.copy()
    line = [*points, points[0], points[1]]
    ImageDraw.Draw(inner).line(line, fill=0, width=max(1, round(2 * width)), joint="curve")
    return inner


def draw_text(
    image: Image.Image, text: str, box: Box, rgb: RGB, style: Style, rng: np.random.Generator
) -> None:
    """Draw `text` centred in `box`, as tall as the box unless it would become too wide."""
    path = _sample_font(rng) if style.is_font_mixed else style.font
    width, height = _text_extent(path, text)
    stretch = slant = 0.0
    if style.is_text_distorted:
        stretch, slant = float(rng.uniform(-0.15, 0.15)), float(rng.uniform(-0.15, 0.2))
    size = (box[3] - box[1]) / height
    # A wide face is narrowed first: its capitals must keep the height that makes them legible.
    narrow = min(1.0 + stretch, 1.04 * (box[2] - box[0]) / (width * size))
    size *= min(1.0, narrow / 0.8)
    narrow = max(narrow, 0.8)
    font_size = max(8, round(size))
    font = load_font(path, font_size)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top, right, bottom = font.getbbox(text)
    if narrow > 0.97 and not slant:
        origin = (x - (left + right) / 2, y - (top + bottom) / 2)
        ImageDraw.Draw(image).text(origin, text, fill=rgb, font=font)
        return
    glyphs = Image.new("L", (math.ceil(right - left) + 6, math.ceil(bottom - top) + 4))
    is_bolder = style.is_text_distorted and font_size >= 16 and rng.random() < 0.3
    ImageDraw.Draw(glyphs).text(
        (3 - left, 2 - top), text, fill=255, font=font, stroke_width=int(is_bolder)
    )
    glyphs = _distort(glyphs, min(narrow, 1.15), slant)
    image.paste(rgb, (round(x - glyphs.width / 2), round(y - glyphs.height / 2)), glyphs)


def _distort(glyphs: Image.Image, stretch: float, slant: float) -> Image.Image:
    """Scale horizontally and shear about the middle row."""
    width = math.ceil(glyphs.width * stretch + abs(slant) * glyphs.height)
    middle = glyphs.height / 2
    # The transform maps output to input pixels.
    offset = glyphs.width / 2 - (width / 2 + slant * middle) / stretch
    matrix = (1 / stretch, slant / stretch, offset, 0.0, 1.0, 0.0)
    size = (width, glyphs.height)
    return glyphs.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
