"""data/decode.py: every kind of file becomes an upright RGB or grey picture, or a clear error."""

import io
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hybridvit.data.decode import FORMATS, MAX_RATIO, decode, endings
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
    with pytest.raises(DataError, match=f"x has {width} x {height} pixels, the limit is 1000.*--max-megapixels"):
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


def wide(values: np.ndarray, file_format: str = "TIFF", **options: object) -> np.ndarray:
    return decoded(encoded(Image.fromarray(values), file_format, **options), channels=1)


RAMP = np.linspace(0, 1, 24).reshape(4, 6)


@pytest.mark.parametrize("top", [1, 255, 65535])
@pytest.mark.parametrize("brightest", [0.3, 1.0])
def test_floating_point_numbers_are_scaled_by_the_range_that_holds_them(top: int, brightest: float) -> None:
    if brightest < 1 and top == 1:
        brightest = 1.0
    found = wide((RAMP * top * brightest).astype(np.float32))
    np.testing.assert_allclose(found, RAMP * 255 * brightest, atol=0.51)


@pytest.mark.parametrize("top", [255, 65535])
def test_wide_whole_numbers_are_scaled_by_the_range_that_holds_them(top: int) -> None:
    np.testing.assert_allclose(wide((RAMP * top).round().astype(np.int32)), RAMP * 255, atol=0.51)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((RAMP * 4095).astype(np.uint16), "0 to 4095"),
        ((RAMP * 1023).astype(np.uint16), "0 to 1023"),
        ((RAMP * 16383).astype(np.uint16), "0 to 16383"),
        ((RAMP * 200).astype(np.uint16), "0 to 200"),
        ((RAMP * 4095).astype(np.int32), "0 to 4095"),
        ((RAMP * 70000).astype(np.int32), "0 to 70000"),
        ((RAMP * 1.5).astype(np.float32), r"0 to 1\.5"),
        ((RAMP - 0.5).astype(np.float32), r"-0\.5 to 0\.5"),
        (np.where(RAMP > 0.9, np.nan, RAMP).astype(np.float32), "nan to nan"),
        (np.where(RAMP > 0.9, np.inf, RAMP).astype(np.float32), "0 to inf"),
    ],
)
def test_a_range_in_doubt_is_refused_and_told(values: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=f"x holds values from {found}, and does not say which of them is white"):
        wide(values)


def test_colours_of_12_bits_in_16_are_refused() -> None:
    values = (np.stack([RAMP] * 3, axis=2) * 4095).astype(">u2")
    with pytest.raises(DataError, match="x holds values from 0 to about"):
        decoded(b"P6\n6 4\n65535\n" + values.tobytes())
    np.testing.assert_allclose(decoded(b"P6\n6 4\n4095\n" + values.tobytes())[..., 0], RAMP * 255, atol=1)


def test_a_file_that_tells_its_range_is_believed() -> None:
    values = (RAMP * 4095).astype(np.uint16)
    np.testing.assert_allclose(wide(values, tiffinfo={281: 4095}), RAMP * 255, atol=0.51)
    grey = b"P5\n6 4\n4095\n" + values.astype(">u2").tobytes()
    np.testing.assert_allclose(decoded(grey, channels=1), RAMP * 255, atol=1)


def test_a_black_picture_is_black_in_any_range() -> None:
    for dtype in (np.uint16, np.int32, np.float32):
        assert not wide(np.zeros((4, 6), dtype=dtype)).any()


def exif_of(orientation: bytes, kind: int, count: int = 1) -> bytes:
    """A block of EXIF with one entry for the orientation, of any type, between two that no reader can make sense of."""
    entries = [(0x0100, 2, 9, b"\xff" * 4), (0x0112, kind, count, orientation), (0x011A, 5, 1, b"\xff" * 4)]
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 3) + body + struct.pack("<I", 0)


@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF data", "ignore:Possibly corrupt EXIF")
@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "PNG"])
def test_odd_metadata_costs_no_picture(file_format: str) -> None:
    upright = Image.fromarray(RGB).resize((28, 18))
    plain = decoded(encoded(upright, file_format))
    turned = np.rot90(plain, -1)  # 6: to be turned by 90 degrees clockwise
    for exif, expected in (
        (exif_of(struct.pack("<I", 6), 3), turned),
        (exif_of(struct.pack("<I", 6), 4), turned),
        (exif_of(b"six\0", 2, 4), plain),
        (exif_of(struct.pack("<I", 9), 3), plain),
        (exif_of(b"\xff" * 4, 5), plain),
        (exif_of(b"\xff" * 4, 12), plain),
        (b"Exif\0\0II*\0\xff", plain),
    ):
        found = decoded(encoded(upright, file_format, exif=exif))
        np.testing.assert_array_equal(found, expected)


def test_an_odd_rational_beside_the_orientation_costs_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    data = encoded(Image.fromarray(RGB), "TIFF", exif=exif.tobytes())
    np.testing.assert_array_equal(decoded(data), np.rot90(RGB, -1))


def png_chunk(kind: bytes, body: bytes, *, good: bool = True) -> bytes:
    checksum = zlib.crc32(kind + body) ^ (0 if good else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(70 << 20))),
        png_chunk(b"iTXt", b"key\0\1\0\0\0" + zlib.compress(bytes(70 << 20))),
        png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(70 << 20))),
        png_chunk(b"tEXt", b"key\0text", good=False),
        png_chunk(b"pHYs", b"too short", good=False),
    ],
    ids=["zTXt", "iTXt", "iCCP", "tEXt", "pHYs"],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_texts_and_profiles_of_any_size_cost_no_picture(chunk: bytes, place: str) -> None:
    data = encoded(Image.fromarray(RGB))
    at = 33 if place == "before" else len(data) - 12  # after the header, or before the end
    np.testing.assert_array_equal(decoded(data[:at] + chunk + data[at:]), RGB)


@pytest.mark.parametrize("size", [(1, MAX_RATIO + 1), (10_000, 1), (300_000, 1)])
def test_a_picture_that_is_a_line_is_refused_from_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(
        DataError, match=rf"x has {size[0]} x {size[1]} pixels: one side is more than {MAX_RATIO} times"
    ):
        decode(header_of(*size), name="x")
    assert decode(encoded(Image.new("RGB", (MAX_RATIO, 1))), name="x").size == (MAX_RATIO, 1)


def test_postscript_starts_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(RGB), "EPS")
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(DataError, match="of no format that is read here"):
        decode(data, name="x")


def test_the_formats_are_pillows_and_their_endings_too() -> None:
    Image.init()
    pillows: dict[str, set[str]] = {}
    for ending, name in Image.registered_extensions().items():
        pillows.setdefault(name, set()).add(ending)
    assert {name: set(own) for name, own in FORMATS.items()} == {name: pillows[name] for name in FORMATS}
    assert {".jpg", ".jfif", ".jpe", ".png", ".webp", ".avif"} <= endings()
    for name in FORMATS.keys() & Image.SAVE.keys():
        assert decode(encoded(Image.fromarray(RGB[:8, :8]), name), name="x").size == (8, 8)


def test_threads_decode_at_once_and_pillows_limit_stays_as_it_was() -> None:
    """No switch is turned: a thread that looks at Pillow's limit meanwhile never sees another."""
    limits: set[int | None] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            limits.add(Image.MAX_IMAGE_PIXELS)

    watcher = threading.Thread(target=watch)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    watcher.start()
    try:
        data = encoded(Image.fromarray(RGB))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: decoded(data), range(200)))
    finally:
        done.set()
        watcher.join()
        sys.setswitchinterval(interval)
    assert all((each == RGB).all() for each in found)
    assert limits == {Image.MAX_IMAGE_PIXELS}


def test_a_picture_in_memory_is_treated_as_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for picture, options in (
        (Image.fromarray(RGB), {"exif": exif}),
        (Image.fromarray((RAMP * 65535).astype(np.uint16)), {}),
    ):
        data = encoded(picture, **options)
        opened = Image.open(io.BytesIO(data))
        np.testing.assert_array_equal(np.asarray(decode(opened, name="x")), decoded(data))
    with pytest.raises(DataError, match="x holds values"):
        decode(Image.fromarray((RAMP * 4095).astype(np.uint16)), name="x")
