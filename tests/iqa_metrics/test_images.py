"""Reading images: every accepted kind gives the same pixels, every bad kind a clear error."""

import gzip
import io
import os
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import encoded, tensor
from PIL import Image

from iqa_metrics import ImageError, read_image
from iqa_metrics.io.images import check_images, check_pair

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (6, 5, 3), dtype=np.uint16)
GREY16 = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
RGBA = np.dstack([RGB, RNG.integers(0, 256, (6, 5), dtype=np.uint8)])


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png16(array, extra=b"", size=None):
    """A 16-bit PNG, which Pillow can't write in colour; its header may lie about the size."""
    height, width, channels = array.shape
    width, height = size or (width, height)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff16(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def expected(array, peak=255):
    array = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    return torch.from_numpy(array.astype(np.float64) / peak).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("array", [RGB, GREY], ids=["rgb", "grey"])
def test_lossless_files_give_their_pixels(kind, array):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(array, kind, **options))
    assert image.dtype == torch.float32
    assert torch.equal(image, expected(array))


def test_jpeg_gives_what_pillow_decodes():
    data = encoded(RGB, "JPEG", quality=95)
    assert torch.equal(read_image(data), expected(np.array(Image.open(io.BytesIO(data)))))


def test_every_kind_of_source_gives_the_same(tmp_path):
    data = encoded(RGB, "PNG")
    path = tmp_path / "image.png"
    path.write_bytes(data)
    channels_first = torch.from_numpy(RGB).permute(2, 0, 1)
    with path.open("rb") as file:
        sources = [
            *(str(path), path, data, bytearray(data), memoryview(data), file, io.BytesIO(data)),
            *(Image.open(io.BytesIO(data)), Image.fromarray(RGB)),
            *(RGB, RGB[None], RGB[::-1][::-1], RGB / 255, (RGB / 255).astype(">f8")),
            *((RGB / np.float32(255)), RGB.astype(np.uint16) * 257),
            *(channels_first, channels_first[None], channels_first.double() / 255),
        ]
        for source in sources:
            assert torch.allclose(read_image(source), expected(RGB), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("data", "array"),
    [
        (png16(RGB16), RGB16),
        (png16(GREY16[..., None]), GREY16),
        (tiff16(RGB16, photometric="rgb"), RGB16),
        (tiff16(RGB16, photometric="rgb", byteorder=">"), RGB16),
        (tiff16(RGB16, photometric="rgb", compression="zlib"), RGB16),
        (tiff16(RGB16, photometric="rgb", compression="zlib", byteorder=">"), RGB16),
        (tiff16(GREY16), GREY16),
        (tiff16(GREY16, byteorder=">"), GREY16),
        (b"P5 5 6 65535\n" + GREY16.astype(">u2").tobytes(), GREY16),
        (b"P6 5 6 65535\n" + RGB16.astype(">u2").tobytes(), RGB16),
    ],
    ids=[
        "png-rgb",
        "png-grey",
        "tiff",
        "tiff-be",
        "tiff-zip",
        "tiff-zip-be",
        "grey",
        "grey-be",
        "pgm",
        "ppm",
    ],
)
def test_sixteen_bits_are_all_kept(data, array):
    assert torch.allclose(read_image(data), expected(array, 65535), rtol=1e-6, atol=0)


def test_palette_and_bilevel():
    palette = Image.fromarray(RGB).convert("P")
    assert torch.equal(
        read_image(encoded(palette, "PNG")), expected(np.array(palette.convert("RGB")))
    )
    bilevel = Image.fromarray(GREY).convert("1")
    assert torch.equal(
        read_image(encoded(bilevel, "PNG")), expected(np.array(bilevel.convert("L")))
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, "PNG", exif=exif)
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    assert torch.equal(read_image(data), expected(np.ascontiguousarray(upright)))


def test_a_background_shows_through():
    alpha = RGBA[..., 3:] / 255
    for background in (1.0, (0.2, 0.4, 0.6)):
        composed = alpha * RGB / 255 + (1 - alpha) * np.asarray(background)
        for source in (
            RGBA,
            encoded(RGBA, "PNG"),
            encoded(RGBA, "WEBP", lossless=True, exact=True),
        ):
            image = read_image(source, background=background)
            assert torch.allclose(image, expected(composed, 1), rtol=0, atol=1e-6)


def test_a_background_shows_through_sixteen_bits():
    alpha = GREY16[..., None] / 65535
    image = read_image(png16(np.dstack([RGB16, GREY16])), background=0.25)
    composed = alpha * RGB16 / 65535 + (1 - alpha) * 0.25
    assert torch.allclose(image, expected(composed, 1), rtol=1e-5, atol=0)


def test_alpha_that_is_opaque_everywhere_is_ignored():
    opaque = np.dstack([RGB, np.full_like(GREY, 255)])
    deep = np.dstack([RGB16, np.full_like(GREY16, 65535)])
    palette = Image.fromarray(RGB).convert("P")
    colours = expected(np.array(palette.convert("RGB")))
    for source, found in (
        (encoded(opaque, "PNG"), expected(RGB)),
        (encoded(opaque, "TIFF"), expected(RGB)),
        (encoded(opaque, "WEBP", lossless=True), expected(RGB)),
        (encoded(np.dstack([GREY, opaque[..., 3]]), "PNG"), expected(GREY)),
        (encoded(palette, "PNG", transparency=bytes([255] * 256)), colours),
        (png16(deep), expected(RGB16, 65535)),
        (opaque, expected(RGB)),
        (torch.from_numpy(opaque / 255).permute(2, 0, 1), expected(RGB)),
    ):
        assert torch.allclose(read_image(source), found, rtol=1e-6, atol=0)
    nearly = opaque.copy()
    nearly[3, 2, 3] = 254
    with pytest.raises(ImageError, match="partly transparent") as caught:
        read_image(encoded(nearly, "PNG"))
    assert caught.value.code == "has_alpha"


def test_orientation_is_applied_to_sixteen_bits():
    data = tiff16(RGB16, photometric="rgb", extratags=[(274, "H", 1, 3, True)])
    assert torch.allclose(read_image(data), expected(RGB16[::-1, ::-1], 65535), rtol=1e-6)


def test_a_tensor_keeps_its_gradient():
    source = torch.rand(3, 4, 4, requires_grad=True)
    read_image(source).sum().backward()
    assert torch.equal(source.grad, torch.ones(3, 4, 4))


def test_the_callers_array_is_not_shared():
    array = np.zeros((4, 4, 3), np.float32)
    image = read_image(array)
    array[:] = 1
    assert image.max() == 0


PNG = encoded(RGB, "PNG")
BIG = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
BOMB, LARGE = (png16(RGB16, size=(n, n)) for n in (60_000, 9_000))
TRANSPARENT_PALETTE = encoded(Image.fromarray(GREY).convert("P"), "PNG", transparency=0)
FRAMES = [Image.fromarray(RGB), Image.fromarray(RGB[::-1])]
KEY = chunk(b"tRNS", bytes(6))

PAGES = io.BytesIO()
with tifffile.TiffWriter(PAGES) as writer:
    for _ in range(300):
        writer.write(GREY, contiguous=False)

PLANES, PLANES_ZIP = (
    tiff16(np.moveaxis(RGB16, 2, 0), photometric="rgb", planarconfig="separate", compression=method)
    for method in (None, "zlib")
)

BAD = {
    "empty": (b"", "bad_image", "empty"),
    "text": (b"this is no image at all", "bad_image", "not an image"),
    "html": (b"<!DOCTYPE html><p>404 not found</p>", "bad_image", "HTML page"),
    "signature only": (PNG[:8], "bad_image", "expected"),
    "truncated png": (encoded(BIG, "PNG")[:-3000], "bad_image", "truncated"),
    "truncated jpeg": (encoded(BIG, "JPEG")[:-200], "bad_image", "truncated"),
    "truncated bmp": (encoded(BIG, "BMP")[:500], "bad_image", "truncated"),
    "truncated webp": (encoded(BIG, "WEBP")[:200], "bad_image", "expected"),
    "truncated 16 bit": (png16(RGB16)[:80], "bad_image", "truncated"),
    "flipped bytes": (PNG[:45] + b"\xff\x00\xff" + PNG[48:], "bad_image", "damaged"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "bad_image", "PostScript"),
    "bomb": (BOMB, "too_large", "pixels"),
    "large": (LARGE, "too_large", "9000x9000 has 81,000,000 pixels"),
    "rgba": (encoded(RGBA, "PNG"), "has_alpha", "background"),
    "grey with alpha": (encoded(RGBA[..., 2:], "PNG"), "has_alpha", "background"),
    "transparent palette": (TRANSPARENT_PALETTE, "has_alpha", "background"),
    "16 bit rgba": (png16(np.dstack([RGB16, GREY16])), "has_alpha", "background"),
    "16 bit grey and alpha": (png16(RGB16[..., :2]), "bad_image", "only 8 bits"),
    "16 bit planes": (PLANES, "bad_image", "only 8 bits"),
    "16 bit planes, compressed": (PLANES_ZIP, "bad_image", "only 8 bits"),
    "16 bit colour key": (png16(RGB16, KEY), "has_alpha", "flatten"),
    "gif animation": (
        encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
        "animated",
        "more than one",
    ),
    "png animation": (
        encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]),
        "animated",
        "more than one",
    ),
    "webp animation": (
        encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]),
        "animated",
        "more than one",
    ),
    "tiff pages": (
        encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        "animated",
        "more than one",
    ),
    "many pages": (PAGES.getvalue(), "animated", "more than one"),
    "signed bytes": (tiff16(GREY.astype(np.int8)), "bad_image", "signed"),
    "masked": (np.ma.masked_array(GREY, GREY > 9), "bad_image", "masked"),
    "sparse": (torch.rand(3, 4, 4).to_sparse(), "bad_image", "dense"),
    "without values": (torch.rand(3, 4, 4, device="meta"), "bad_image", "meta"),
    "float of 8 bits": (torch.zeros(3, 4, 4).to(torch.float8_e4m3fn), "bad_image", "float8"),
    "pil of 16 bits": (Image.open(io.BytesIO(png16(RGB16))), "bad_image", "path or bytes"),
    "cmyk": (encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "bad_image", "CMYK"),
    "32 bit integers": (encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "bad_image", "I"),
    "nan file": (
        encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"),
        "out_of_range",
        "NaN",
    ),
    "missing": ("no/such/file.png", "not_found", "No such file"),
    "folder": (os.curdir, "not_found", "regular file"),
    "null byte": ("a\0b", "not_found", "null"),
    "text file": (io.StringIO("text"), "bad_image", "text mode"),
    "number": (3, "bad_image", "got int"),
    "none": (None, "bad_image", "got NoneType"),
    "zero width": (np.zeros((4, 0, 3)), "too_small", "zero-sized"),
    "no images": (torch.zeros(0, 3, 4, 4), "too_small", "zero-sized"),
    "one dimension": (np.zeros(9), "bad_image", "got shape [9]"),
    "channels first": (np.zeros((3, 32, 48)), "bad_image", "channels first"),
    "channels last": (torch.zeros(32, 48, 3), "bad_image", "channels last"),
    "nan": (np.full((4, 4, 3), np.nan), "out_of_range", "NaN"),
    "infinite": (torch.full((3, 4, 4), torch.inf), "out_of_range", "infinite"),
    "-1 to 1": (torch.linspace(-1, 1, 48).reshape(3, 4, 4), "out_of_range", "(x + 1) / 2"),
    "0 to 255": (np.linspace(0, 255, 48).reshape(4, 4, 3), "out_of_range", "divide by 255"),
    "0 to 65535": (np.linspace(0, 65535, 48).reshape(4, 4, 3), "out_of_range", "65535"),
    "overshoot": (torch.linspace(-0.1, 1.2, 48).reshape(3, 4, 4), "out_of_range", "clamp"),
    "normalised": (torch.linspace(-2.1, 2.6, 48).reshape(3, 4, 4), "out_of_range", "normalis"),
    "signed": (np.zeros((4, 4, 3), np.int64), "bad_image", "int64"),
    "boolean": (np.zeros((4, 4), bool), "bad_image", "bool"),
    "complex": (np.zeros((4, 4), complex), "bad_image", "complex"),
    "objects": (np.full((4, 4), None), "bad_image", "object"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_with_a_reason(kind):
    source, code, words = BAD[kind]
    with pytest.raises(ImageError) as caught:
        read_image(source, name="the image")
    assert caught.value.code == code
    assert str(caught.value).startswith("the image: ")
    assert words in str(caught.value)


def iso(*brands):
    """The first box of an ISO media file: major brand, version, compatible brands."""
    major, *compatible = brands
    body = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + bytes(64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (iso(b"heic", b"mif1", b"heic"), "a HEIC image"),
        (iso(b"isom", b"mp42"), "QuickTime video"),
        (encoded(RGB, "JPEG2000"), "a JPEG 2000 image"),
        (b"\xff\x0a\xfa\x10" + bytes(40), "a JPEG XL codestream"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40), "a JPEG XL image"),
        (b"\x76\x2f\x31\x01\x02\x00\x00\x00" + bytes(40), "OpenEXR"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR"),
        (b"\xef\xbb\xbf\n <HTML><body>Not found", "HTML page, perhaps a server's error"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
        (b'{"message": "no such image"}', "text that looks like JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "'git lfs pull'"),
        (gzip.compress(PNG), "gzip data"),
        (b"PK\x03\x04" + bytes(40), "ZIP archive"),
        (b"RIFF\x40\x00\x00\x00AVI LIST" + bytes(40), "an AVI video"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"\x93NUMPY\x01\x00" + bytes(40), "a NumPy file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_of_other_kinds_are_named(content, words, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for source, limit in ((content, None), (path, None), (path, 5.0)):
        with pytest.raises(ImageError) as caught:
            read_image(source, max_seconds=limit)
        assert caught.value.code == "bad_image"
        assert "this is " in str(caught.value)
        assert words in str(caught.value)


def overshot(x):
    x = x.clone()
    x[..., 0, :2] = torch.tensor([-0.04, 1.04])
    return x


FOLLOWED = {
    "use (x + 1) / 2": lambda x: (x + 1) / 2,
    "use (x + 1) / 2, then clamp to [0, 1]": lambda x: ((x + 1) / 2).clamp(0, 1),
    "use x.clamp(0, 1)": lambda x: x.clamp(0, 1),
    "divide by 255": lambda x: x / 255,
    "divide by 255, then clamp to [0, 1]": lambda x: (x / 255).clamp(0, 1),
    "divide by 1023 (or by the peak of more bits)": lambda x: x / 1023,
    "divide by 4095 (or by the peak of more bits)": lambda x: x / 4095,
    "divide by 65535 (or by the peak of more bits)": lambda x: x / 65535,
}


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda x: 2 * x - 1, "use (x + 1) / 2"),
        (lambda x: 2 * overshot(x) - 1, "use (x + 1) / 2, then clamp to [0, 1]"),
        (overshot, "use x.clamp(0, 1)"),
        (lambda x: x.masked_fill(x == x.max(), 1.00001), "use x.clamp(0, 1)"),
        (lambda x: x.masked_fill(x == x.min(), -0.0005), "use x.clamp(0, 1)"),
        (lambda x: 255 * x, "divide by 255"),
        (lambda x: 255 * overshot(x).clamp(-0.01, 1.01), "divide by 255, then clamp to [0, 1]"),
        (lambda x: 1023 * x, "divide by 1023 (or by the peak of more bits)"),
        (lambda x: 4095 * x, "divide by 4095 (or by the peak of more bits)"),
        (lambda x: 65535 * x, "divide by 65535 (or by the peak of more bits)"),
    ],
)
def test_the_advice_for_a_wrong_range_gives_the_right_image(change, advice, photographs):
    image = tensor(photographs["cat"])
    image = (image - image.min()) / (image.max() - image.min())
    with pytest.raises(ImageError) as caught:
        check_images(change(image), "distorted")
    message = str(caught.value)
    assert message.endswith(advice)
    found = FOLLOWED[advice](change(image))
    assert found.min() >= 0
    assert found.max() <= 1
    # But for the few pixels that were changed.
    assert float((found - image).abs().mean()) < 1e-3
    low, high = (float(v) for v in re.search(r"from (\S+) to (\S+);", message).groups())
    assert low < 0 or high > 1


@pytest.mark.parametrize("change", [lambda x: x - 0.5, lambda x: (x - 0.45) / 0.22])
def test_what_follows_no_pattern_is_not_guessed(change, photographs):
    with pytest.raises(ImageError, match="undo the normalisation that was applied"):
        check_images(change(tensor(photographs["cat"])), "distorted")


def test_a_large_image_is_refused_before_it_is_decoded():
    with pytest.raises(ImageError, match=r"6x5|5x6") as caught:
        read_image(PNG, max_pixels=29)
    assert caught.value.code == "too_large"
    assert read_image(PNG, max_pixels=30).shape == (1, 3, 6, 5)


def test_a_bad_background_is_refused():
    with pytest.raises(ImageError, match="background"):
        read_image(RGBA, background=255)
    with pytest.raises(ImageError, match=r"background.*'white'"):
        read_image(RGBA, background="white")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_but_image_errors(data):
    whole = data.draw(
        st.sampled_from(
            [
                PNG,
                png16(RGB16),
                encoded(RGB, "JPEG"),
                encoded(RGB, "WEBP"),
                encoded(RGB, "BMP"),
                tiff16(RGB16),
                encoded(RGB, "GIF"),
            ]
        )
    )
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(whole)))]
    try:
        image = read_image(bytes(damaged), max_pixels=10_000)
    except ImageError:
        return
    assert image.shape[:2] == (1, 3)
    assert bool(((image >= 0) & (image <= 1)).all())


def test_different_sizes_are_both_named():
    with pytest.raises(ImageError, match="reference is 5x6 and distorted is 7x6") as caught:
        check_pair(torch.zeros(1, 3, 6, 5), torch.zeros(1, 3, 6, 7))
    assert caught.value.code == "size_mismatch"
    with pytest.raises(ImageError, match="2 references and 3 distorted"):
        check_pair(torch.zeros(2, 3, 6, 5), torch.zeros(3, 3, 6, 5))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 3, 4, 4)), "ndarray"),
        (torch.zeros(3, 4, 4), "[3, 4, 4]"),
        (torch.zeros(1, 1, 4, 4), "[1, 1, 4, 4]"),
        (torch.zeros(1, 4, 4, 4), "alpha"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 0, 4), "zero-sized"),
        (torch.full((1, 3, 4, 4), 2.0), "expected values in [0, 1]"),
    ],
)
def test_tensors_that_break_the_convention_are_refused(images, words):
    with pytest.raises(ImageError) as caught:
        check_images(images, "distorted")
    assert words in str(caught.value)
    assert str(caught.value).startswith("distorted: ")
