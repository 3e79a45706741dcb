"""How is text written on a picture?  On a light card at the bottom, in lines that fit."""

import re
from contextlib import suppress

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]

_WHITE: Color = (255, 255, 255)
_INK: Color = (24, 26, 38)
_GREY: Color = (110, 114, 128)


def captioned(picture: Image.Image, prompt: str, footer: str) -> Image.Image:
    """Write the prompt on a light card at the bottom."""
    width, height = picture.size
    unit = max(8, min(width, height) // 28)
    if min(width, height) < 8 * unit:
        return picture  # too small to write on
    font, small = _font(prompt, unit * 1.25), _font(footer, unit * 0.7)
    lines = _wrapped(prompt or "(no prompt)", font, width - 5 * unit, most=max(1, height // (4 * unit)))
    card = Image.new("L", (width - 2 * unit, round(unit * (2.6 + 1.6 * len(lines)))))
    ImageDraw.Draw(card).rounded_rectangle((0, 0, card.width - 1, card.height - 1), radius=unit * 0.8, fill=225)
    top = height - unit - card.height
    picture.paste(_WHITE, (unit, top), card)
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((2.2 * unit, top + unit * (0.7 + 1.6 * number)), line, font=font, fill=_INK)
    draw.text((2.2 * unit, height - unit * 2.5), footer, font=small, fill=_GREY)
    return picture


def _font(text: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font where it can write the text; it knows ASCII only, many systems have one that knows more."""
    if not text.isascii():
        with suppress(OSError):
            return ImageFont.truetype("DejaVuSans.ttf", size)
    return ImageFont.load_default(size)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float, *, most: int) -> list[str]:
    """The text in lines no wider than `width`; what does not fit into `most` lines ends in an ellipsis."""
    lines = [""]
    longest = max(1, int(width / font.getlength("M")))  # a word without end, or Chinese, is broken
    for word in re.findall(rf"\S{{1,{longest}}}", text[:2000]):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
    return lines
