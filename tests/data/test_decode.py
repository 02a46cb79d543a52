"""data/decode.py: every kind of file becomes an upright RGB or grey picture, or a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hybridvit.data.decode import decode
from hybridvit.errors import DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, size=(9, 14, 3), dtype=np.uint8)


def encoded(picture: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(data: bytes, channels: int = 3) -> np.ndarray:
    return np.asarray(decode(data, name="x", channels=channels))


def test_rgb_comes_back_unchanged() -> None:
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(RGB))), RGB)


def test_grey_becomes_three_equal_channels_or_stays_one() -> None:
    grey = Image.fromarray(RGB[..., 0], "L")
    np.testing.assert_array_equal(decoded(encoded(grey)), np.repeat(RGB[..., :1], 3, axis=2))
    np.testing.assert_array_equal(decoded(encoded(grey), channels=1), RGB[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(RGB)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decoded(encoded(stored, exif=exif)), RGB)


def test_transparency_is_laid_on_white() -> None:
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], dtype=np.uint8)])
    assert (decoded(encoded(Image.fromarray(rgba, "RGBA"))) == 255).all()


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    palette = Image.fromarray(np.zeros((4, 4), dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30] * 256)
    assert (decoded(encoded(palette)) == [10, 20, 30]).all()
    assert (decoded(encoded(palette, transparency=0)) == 255).all()


def test_16_bit_grey_uses_the_full_range() -> None:
    values = np.array([[0, 257 * 7, 65535]], dtype=np.uint16)
    assert decoded(encoded(Image.fromarray(values)), channels=1).tolist() == [[0, 7, 255]]


def test_cmyk_looks_as_pillow_shows_it() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert np.abs(decoded(encoded(cmyk, "JPEG", quality=100)).astype(int) - RGB).mean() < 40
    np.testing.assert_array_equal(decoded(encoded(cmyk, "TIFF")), np.asarray(cmyk.convert("RGB")))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    assert (decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == [255, 0, 0]).all()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_moving_and_many_paged_files_give_their_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert (decoded(data) == [255, 0, 0]).all()


def test_grey_with_alpha_and_half_transparent_colours_are_blended_with_white() -> None:
    grey = Image.fromarray(np.full((3, 3, 2), [100, 51], dtype=np.uint8), "LA")
    assert (decoded(encoded(grey)) == 224).all()  # 0.2 x 100 + 0.8 x 255
    assert (decoded(encoded(grey), channels=1) == 224).all()


def test_a_palette_with_several_transparencies_is_laid_on_white() -> None:
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([0, 0, 0] * 256)
    assert decoded(encoded(palette, transparency=bytes([0, 51, 255])))[0, :, 0].tolist() == [255, 204, 0]


def test_16_bit_colour_keeps_the_upper_byte() -> None:
    values = np.array([[[0, 257 * 7, 65535], [256 * 9 + 3, 40000, 1]]], dtype=">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(decoded(png).astype(int) - values.astype(int) / 257).max() <= 1


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<f4"])
def test_wide_tiffs_are_scaled_and_not_clipped(dtype: str) -> None:
    values = np.array([[0, 20_000, 40_000, 65_535]], dtype=dtype)
    found = decoded(encoded(Image.fromarray(values), "TIFF"), channels=1)
    np.testing.assert_allclose(found[0], [0, 78, 156, 255], atol=1)


def test_cmyk_of_adobe_which_stores_ink_upside_down_is_no_negative() -> None:
    white = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    data = encoded(white, "JPEG", quality=95)
    assert b"Adobe" in data  # Pillow writes the marker, and the inverted values, as Photoshop does
    assert (decoded(data) > 250).all()


def test_black_and_white_becomes_0_and_255() -> None:
    assert set(np.unique(decoded(encoded(Image.fromarray(RGB[..., 0] > 128))))) == {0, 255}


def header_of(width: int, height: int) -> bytes:
    """A PNG that tells its size and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize(("width", "height"), [(30_000, 2_500), (10_000, 9_000), (40_000, 30_000)])
def test_too_many_pixels_are_refused_from_the_header_alone(width: int, height: int) -> None:
    pillows = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match=f"x has {width} x {height} pixels, the limit is 1000"):
        decode(header_of(width, height), name="x", max_pixels=1000)
    assert pillows == Image.MAX_IMAGE_PIXELS


def test_a_raised_limit_is_not_undercut_by_pillows() -> None:
    with pytest.raises(DataError, match="truncated"):  # it came to reading the pixels
        decode(header_of(10_000, 9_000), name="x", max_pixels=100_000_000)


@pytest.mark.parametrize("length", [0, 5, 40, 200])
def test_a_cut_file_is_an_error_that_names_it(length: int) -> None:
    data = encoded(Image.fromarray(RGB))[:length]
    with pytest.raises(DataError, match=r"some/cat\.png cannot be read as a picture"):
        decode(data, name="some/cat.png")


def test_random_damage_gives_a_picture_or_a_data_error() -> None:
    for file_format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = np.frombuffer(encoded(Image.fromarray(RGB), file_format), dtype=np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[RNG.integers(8, len(data), size=3)] = RNG.integers(0, 256, size=3)
            try:
                decode(damaged.tobytes(), name="x", max_pixels=10_000)
            except DataError:
                continue
