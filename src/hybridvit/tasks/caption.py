"""A line of text under a picture."""

from PIL import Image, ImageDraw, ImageFont

MIN_WIDTH = 160
"""Of the whole, in pixels: narrower pictures are made larger, so that the words fit."""


def caption(picture: Image.Image, text: str) -> Image.Image:
    """The picture, in RGB, with the text below it in black on white; long text is shortened."""
    picture = picture.convert("RGB")
    if picture.width < MIN_WIDTH:
        picture = picture.resize(
            (MIN_WIDTH, max(round(picture.height * MIN_WIDTH / picture.width), 1)), Image.Resampling.NEAREST
        )
    size = max(picture.width // 20, 12)
    font = ImageFont.load_default(size)
    while len(text) > 1 and font.getlength(text) > picture.width - size:
        text = text.rstrip("…")[:-1] + "…"
    whole = Image.new("RGB", (picture.width, picture.height + 2 * size), "white")
    whole.paste(picture)
    ImageDraw.Draw(whole).text((picture.width / 2, picture.height + size), text, fill="black", font=font, anchor="mm")
    return whole
