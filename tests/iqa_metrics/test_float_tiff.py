"""Float TIFF files of all kinds that are read are exact, and others are refused."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import encoded, planes
from PIL import Image
from profiles import P3, PRIMARIES, from_space

from iqa_metrics import ImageError, read_image
from iqa_metrics.io.decoding import size_of_file
from iqa_metrics.io.float_tiff import FloatTiff

RNG = np.random.default_rng(0)
FLOATS = RNG.random((21, 18, 3), dtype=np.float32)
GREYS = FLOATS[..., 0].copy()


OPTIONS = {
    "plain": {},
    "strips": {"rowsperstrip": 4},
    "tiles": {"tile": (16, 16)},
    "deflate": {"compression": "zlib"},
    "deflate, strips": {"compression": "zlib", "rowsperstrip": 5},
}


def tiff(array, photometric="rgb", **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric=photometric, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_float_tiff_is_read_exactly(kind, dtype, order):
    for array, photometric in ((FLOATS, "rgb"), (GREYS, "minisblack")):
        values = array.astype(dtype)
        data = tiff(values, photometric, byteorder=order, **OPTIONS[kind])
        assert torch.equal(read_image(data), planes(values))
        assert size_of_file(data) == (18, 21)
    separate = tiff(
        np.moveaxis(FLOATS.astype(dtype), 2, 0),
        planarconfig="separate",
        byteorder=order,
        **OPTIONS[kind],
    )
    assert torch.equal(read_image(separate), planes(FLOATS.astype(dtype)))


def hand_made(pixels, order="<", **changes):
    """A float TIFF of one strip, by the definition of TIFF 6.0; tags are (type, values)."""
    height, width, channels = pixels.shape
    content = changes.pop("content", pixels.tobytes())
    bits = pixels.dtype.itemsize * 8
    tags = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * channels), 259: (3, [1]),
        262: (3, [2 if channels >= 3 else 1]), 273: (4, [8]), 277: (3, [channels]),
        278: (4, [height]), 279: (4, [len(content)]), 339: (3, [3] * channels),
    }  # fmt: skip
    tags |= {int(tag.removeprefix("tag")): said for tag, said in changes.items()}
    content += bytes(len(content) % 2)
    start = 8 + len(content)
    after = start + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", after + len(extra))
            extra += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    magic = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return magic + struct.pack(f"{order}I", start) + content + directory + extra


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_float_predictor_is_undone(dtype, order):
    """By Adobe's technical note 3: bytes by significance, then differences along the row."""
    values = FLOATS.astype(f">{dtype}")
    height, width, channels = values.shape
    size = values.dtype.itemsize
    by_byte = values.view(np.uint8).reshape(height, width * channels, size).transpose(0, 2, 1)
    rows = by_byte.reshape(height, size * width, channels)
    rows = np.diff(rows, axis=1, prepend=np.zeros((height, 1, channels), np.uint8))
    content = zlib.compress(rows.astype(np.uint8).tobytes())
    data = hand_made(values, order, content=content, tag317=(3, [3]), tag259=(3, [8]))
    assert torch.equal(read_image(data), planes(values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_tiff_is_turned_upright_as_pillow_does(orientation):
    exact = np.round(FLOATS * 255).astype(np.uint8)
    turned = tiff(exact, extratags=[(274, "H", 1, orientation, True)])
    data = hand_made((exact / 255).astype("<f4"), tag274=(3, [orientation]))
    assert torch.allclose(read_image(data), read_image(turned), rtol=0, atol=1e-7)
    assert size_of_file(data) == tuple(read_image(data).shape[:1:-1])


def test_other_compressions_of_grey_floats_are_left_to_pillow():
    data = encoded(Image.fromarray(GREYS), "TIFF", compression="tiff_lzw")
    assert torch.equal(read_image(data), planes(GREYS))


def test_profiles_and_alpha_of_float_tiff():
    data = tiff(FLOATS, extratags=[(34675, "B", len(P3), P3, True)])  # of an ICC profile
    found = read_image(data)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - from_space(FLOATS, PRIMARIES["Display P3"])).max() < 5e-4
    alpha = np.dstack([FLOATS, GREYS])
    shown = tiff(alpha, extrasamples=["unassalpha"])
    image = read_image(shown, background=1.0)
    composed = FLOATS * GREYS[..., None] + 1 - GREYS[..., None]
    assert torch.allclose(image, planes(composed), rtol=0, atol=1e-6)
    with pytest.raises(ImageError, match="partly transparent"):
        read_image(shown)


ZEROS = np.zeros((4, 6, 3), "<f4")
REFUSED = {
    "LZW": (hand_made(ZEROS, tag259=(3, [5])), "bad_image", "compression 5"),
    "integer predictor": (hand_made(ZEROS, tag317=(3, [2])), "bad_image", "predictor 2"),
    "24 bits": (hand_made(ZEROS, tag258=(3, [24] * 3)), "bad_image", "24, 24, 24"),
    "CMYK": (hand_made(np.zeros((4, 6, 4), "<f4"), tag262=(3, [5])), "bad_image", "photometric"),
    "premultiplied": (
        hand_made(np.zeros((4, 6, 4), "<f4"), tag338=(3, [1])),
        "bad_image",
        "not unassociated alpha",
    ),
    "white is zero": (
        hand_made(np.zeros((4, 6, 1), "<f4"), tag262=(3, [0])),
        "bad_image",
        "photometric interpretation 0",
    ),
    "cut off": (hand_made(ZEROS, tag279=(4, [100])), "bad_image", "truncated float TIFF"),
    "past the end": (hand_made(ZEROS, tag273=(4, [10**6])), "bad_image", "truncated float TIFF"),
    "not deflated": (hand_made(ZEROS + 1, tag259=(3, [8])), "bad_image", "damaged float TIFF"),
    "a strip too many": (hand_made(ZEROS, tag273=(4, [8, 8])), "bad_image", "number of its strips"),
    "no strips": (hand_made(ZEROS, tag278=(4, [0])), "bad_image", "damaged float TIFF"),
    "huge": (hand_made(ZEROS, tag256=(4, [10**8])), "too_large", "pixels"),
    "empty": (hand_made(ZEROS, tag256=(4, [0])), "too_small", "zero-sized"),
    "above 1": (hand_made(ZEROS + 3), "out_of_range", "divide by 255"),
    "NaN": (hand_made(ZEROS * np.nan), "out_of_range", "NaN"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_float_tiff_is_refused_with_the_reason(kind):
    content, code, words = REFUSED[kind]
    with pytest.raises(ImageError) as caught:
        read_image(content)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_pages_of_float_tiff_are_refused():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(3):
            writer.write(FLOATS, photometric="rgb")
    with pytest.raises(ImageError) as caught:
        read_image(buffer.getvalue())
    assert caught.value.code == "animated"


def test_a_deflate_bomb_is_cut_off():
    content = zlib.compress(bytes(2**26))
    data = hand_made(ZEROS, content=content, tag259=(3, [8]))
    assert torch.equal(read_image(data), planes(ZEROS))


def test_long_tags_take_no_memory():
    values = [1] * 2**18
    long = {f"tag{tag}": (4, values) for tag in (*range(40_000, 40_008), 258, 273, 324, 339)}
    data, deep = hand_made(ZEROS, **long), hand_made(ZEROS, tag273=(4, values), tag279=(4, values))
    tracemalloc.start()
    try:
        assert FloatTiff.open(io.BytesIO(data)) is None
        found = FloatTiff.open(io.BytesIO(deep))
        with pytest.raises(ImageError, match="number of its strips"):
            found.pixels(10_000)
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


def test_the_time_limit_holds():
    content = hand_made(np.zeros((400, 400, 3), "<f4"))
    with pytest.raises(ImageError) as caught:
        read_image(content, max_seconds=0.0)
    assert caught.value.code == "too_slow"


WHOLE = [
    hand_made(ZEROS),
    tiff(FLOATS, compression="zlib", rowsperstrip=5),
    tiff(FLOATS, tile=(16, 16)),
]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_but_image_errors(data):
    whole = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(whole[: data.draw(st.integers(0, len(whole)))]), max_pixels=10_000)
    except ImageError:
        return
    assert bool(((image >= 0) & (image <= 1)).all())
