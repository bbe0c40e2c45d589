"""Draws the example images with plain Pillow calls, independently of the training code.

Run from this folder: `python draw.py`. Sizes follow the model card: small is about an eighth of the
short side, medium a quarter, large two fifths.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
Point = tuple[float, float]


def star(center: Point, radius: float) -> list[Point]:
    """Ten corners of an upright five-pointed star."""
    corners = []
    for i in range(10):
        length = radius if i % 2 == 0 else 0.42 * radius
        angle = math.pi * i / 5 - math.pi / 2
        corners.append((center[0] + length * math.cos(angle), center[1] + length * math.sin(angle)))
    return corners


def box(center: Point, half: float) -> tuple[float, float, float, float]:
    return (center[0] - half, center[1] - half, center[0] + half, center[1] + half)


def shapes() -> Image.Image:
    image = Image.new("RGB", (320, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse(box((56, 54), 46), fill="red")
    draw.rectangle(box((160, 120), 29), fill="blue")
    draw.polygon(star((270, 205), 17), fill="green")
    return image


def words() -> Image.Image:
    image = Image.new("RGB", (256, 256), (250, 247, 236))
    draw = ImageDraw.Draw(image)
    draw.text((128, 44), "STOP", fill=(200, 20, 20), font=ImageFont.load_default(40), anchor="mm")
    draw.polygon([(44, 92), (12, 160), (76, 160)], fill="gold", outline="black")
    draw.text((212, 212), "42", fill="navy", font=ImageFont.load_default(40), anchor="mm")
    return image


def chart() -> Image.Image:
    image = Image.new("RGB", (300, 220), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(18)
    bars = (("#d62728", 4), ("#1f77b4", 7), ("#2ca02c", 2))
    draw.line((30, 195, 285, 195), fill="black", width=2)
    for i, (colour, value) in enumerate(bars):
        left, top = 50 + 80 * i, 195 - 22 * value
        draw.rectangle((left, top, left + 50, 194), fill=colour)
        draw.text((left + 25, top - 12), str(value), fill="black", font=font, anchor="mm")
    return image


def tiny() -> Image.Image:
    image = Image.new("RGB", (64, 64), "black")
    ImageDraw.Draw(image).rectangle(box((32, 32), 13), fill="yellow")
    return image


def main() -> None:
    shapes().save(HERE / "shapes.png", optimize=True)
    words().save(HERE / "words.jpg", quality=85)
    chart().save(HERE / "chart.png", optimize=True)
    tiny().save(HERE / "tiny.png", optimize=True)


if __name__ == "__main__":
    main()
