"""What does a generated picture show?  A sun, a sky and hills, seeded so that the same request draws the same."""

import math
from random import Random

from PIL import Image, ImageDraw, ImageFilter, ImageOps

Color = tuple[int, int, int]

# Skies by day and night: top, horizon, sun, far hills, near hills.
PALETTES: tuple[tuple[Color, Color, Color, Color, Color], ...] = (
    ((38, 70, 120), (255, 190, 140), (255, 236, 190), (178, 120, 140), (36, 40, 70)),
    ((96, 165, 214), (238, 246, 240), (255, 252, 226), (140, 186, 170), (28, 76, 78)),
    ((30, 24, 66), (214, 96, 130), (255, 214, 170), (120, 62, 116), (24, 18, 46)),
    ((16, 28, 62), (84, 130, 170), (240, 244, 255), (60, 92, 128), (10, 20, 40)),
    ((228, 150, 88), (255, 230, 180), (255, 250, 232), (206, 140, 100), (92, 54, 54)),
)
_LARGEST_DRAWN = 2048  # pixels of a side


def landscape(size: tuple[int, int], random: Random) -> Image.Image:
    """A landscape of so many pixels; a large one is drawn at half its size, which is four times as quick."""
    width, height = size
    if max(size) > _LARGEST_DRAWN:
        return landscape((-(-width // 2), -(-height // 2)), random).resize(size)
    top, horizon, sun, far, near = random.choice(PALETTES)
    sky = Image.linear_gradient("L").resize(size, Image.Resampling.BILINEAR)
    picture = ImageOps.colorize(sky, black=top, white=horizon)
    _shine(picture, sun, random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.4) * height)
    layers = 5
    for layer in range(layers):
        share = layer / (layers - 1)
        color = tuple(round(a + (b - a) * share) for a, b in zip(far, near, strict=True))
        _hills(picture, color, height * (0.46 + 0.11 * layer), height * 0.07, random)
    return picture


def _shine(picture: Image.Image, color: Color, x: float, y: float) -> None:
    """A sun with a glow; the glow is drawn small and enlarged, which is quick and smooth."""
    radius, small = min(picture.size) * 0.09, 8
    glow = Image.new("L", (max(1, picture.width // small), max(1, picture.height // small)))
    ImageDraw.Draw(glow).circle((x / small, y / small), 2 * radius / small, fill=110)
    glow = glow.filter(ImageFilter.GaussianBlur(radius / small))
    picture.paste(color, mask=glow.resize(picture.size, Image.Resampling.BILINEAR))
    edge = 2 * math.ceil(radius)
    disc = Image.new("L", (4 * edge, 4 * edge))
    ImageDraw.Draw(disc).circle((2 * edge, 2 * edge), 4 * radius, fill=255)
    picture.paste(color, (round(x) - edge // 2, round(y) - edge // 2), disc.reduce(4))


def _hills(picture: Image.Image, color: tuple[int, ...], level: float, swing: float, random: Random) -> None:
    """One row of hills and all below it; the edge is drawn at twice its size so that it is smooth."""
    width, height = picture.size
    waves = [(random.uniform(0.6, 1.2) * k, random.uniform(0, math.tau), swing / k) for k in (1, 2, 5)]
    line = [
        (x, level + sum(high * math.sin(often * x / width * math.tau + phase) for often, phase, high in waves))
        for x in range(0, width + 8, 8)
    ]
    top, bottom = math.floor(min(y for _, y in line)), math.ceil(max(y for _, y in line)) + 1
    edge = Image.new("L", (2 * width, 2 * (bottom - top)))
    corners = [(2 * width + 16, edge.height), (0, edge.height)]
    ImageDraw.Draw(edge).polygon([*((2 * x, 2 * (y - top)) for x, y in line), *corners], fill=255)
    picture.paste(color, (0, top), edge.reduce(2))
    picture.paste(color, (0, bottom, width, max(bottom, height)))
