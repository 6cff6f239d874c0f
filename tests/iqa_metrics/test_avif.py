"""AVIF files of 8 bits are read, and what Pillow would cut or scale is refused."""

import io
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import encoded, planes, stored
from PIL import Image
from profiles import P3, PRIMARIES, from_space

from iqa_metrics import ImageError, read_image, score
from iqa_metrics.io import avif
from iqa_metrics.io.av1 import Av1Error, frame_sizes
from iqa_metrics.io.decoding import decode_file, size_of_file

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (21, 18, 3), dtype=np.uint8)
AVIF = encoded(BYTES, "AVIF") if avif.has_codec() else b""
needs_avif = pytest.mark.skipif(not avif.has_codec(), reason="this Pillow has no AVIF codec")


@needs_avif
def test_avif_of_eight_bits_is_read(photographs, tmp_path):
    data = encoded(photographs["cat"], "AVIF", quality=90)
    path = tmp_path / "image.avif"
    path.write_bytes(data)
    raw = np.array(Image.open(path))
    for limit in (None, 60.0):
        assert torch.equal(read_image(path, max_seconds=limit), stored(raw))
    assert size_of_file(path) == (200, 200)
    assert score(photographs["cat"], path, "psnr") > 35
    with pytest.raises(ImageError, match="pixels"):
        read_image(path, max_pixels=100)


@needs_avif
def test_avif_states_its_colours(photographs):
    data = encoded(photographs["cat"], "AVIF", quality=100, subsampling="4:4:4")
    raw = np.array(Image.open(io.BytesIO(data))) / 255
    at = data.index(b"nclx") + 4

    def stated(primaries, transfer):
        return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]

    found = read_image(stated(12, 13))[0].permute(1, 2, 0).numpy()
    assert np.abs(found - from_space(raw, PRIMARIES["Display P3"])).max() < 5e-4
    assert torch.equal(read_image(stated(2, 2)), planes(raw.astype(np.float32)))
    with pytest.raises(ImageError, match="PQ") as caught:
        read_image(stated(9, 16))
    assert caught.value.code == "bad_colour"
    profiled = encoded(photographs["cat"], "AVIF", quality=100, icc_profile=P3)
    raw = np.array(Image.open(io.BytesIO(profiled))) / 255
    found = read_image(profiled)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - from_space(raw, PRIMARIES["Display P3"])).max() < 5e-4


@needs_avif
@pytest.mark.parametrize(("flags", "bits"), [(0x40, 10), (0x60, 12)])
def test_deeper_avif_is_refused(flags, bits):
    data = bytearray(encoded(BYTES, "AVIF"))
    data[data.index(b"av1C") + 6] |= flags
    with pytest.raises(ImageError, match=f"AVIF with {bits} bits per channel") as caught:
        read_image(bytes(data))
    assert caught.value.code == "bad_image"


@needs_avif
def test_avif_whose_frames_have_another_size_is_refused():
    """Pillow would decode all of the frame, however large, and scale it."""
    data = bytearray(encoded(BYTES, "AVIF"))
    at = data.index(b"ispe") + 8
    assert struct.unpack_from(">II", data, at) == (18, 21)
    struct.pack_into(">II", data, at, 9, 10)
    with pytest.raises(ImageError, match="a frame of 18x21"):
        read_image(bytes(data))
    with pytest.raises(ImageError, match="18x21 has 378 pixels") as caught:
        read_image(bytes(data), max_pixels=377)
    assert caught.value.code == "too_large"


@needs_avif
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 300), (257, 511)])
def test_avif_of_all_kinds_is_accepted(size):
    for mode, options in (
        ("RGB", {}),
        ("RGBA", {"speed": 10}),
        ("RGB", {"codec": "auto", "quality": 100, "subsampling": "4:4:4"}),
        ("L", {"range": "limited"}),
        ("RGB", {"tile_rows": 1, "tile_cols": 1, "icc_profile": P3}),
    ):
        data = encoded(
            Image.new(mode, size, 255 if mode == "L" else (9, 80, 200)), "AVIF", **options
        )
        assert read_image(data).shape == (1, 3, *size[::-1])


def bits(*numbers):
    """Numbers with their count of bits, as bytes."""
    text = "".join(f"{value:0{count}b}" for value, count in numbers)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


SIZE = ((9, 4), (8, 4), (999, 10), (299, 9), (0, 7))


@pytest.mark.parametrize(
    "header",
    [
        bits((0, 3), (1, 1), (1, 1), (5, 5), *SIZE),
        bits((0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (4, 5), *SIZE),
        bits(
            (0, 3),
            (0, 1),
            (0, 1),
            (0, 1),
            (1, 1),
            (1, 5),
            (0, 12),
            (9, 5),
            (1, 1),
            (1, 1),
            (9, 4),
            (0, 12),
            (4, 5),
            (0, 1),
            *SIZE,
        ),
        bits(
            (0, 3),
            (0, 1),
            (0, 1),
            (1, 1),
            (1, 64),
            (1, 1),
            (1, 3),
            (2, 2),
            (1, 1),
            (9, 5),
            (7, 42),
            (0, 1),
            (0, 5),
            (0, 12),
            (4, 5),
            (1, 1),
            (0, 21),
            *SIZE,
        ),
    ],
    ids=["still picture", "one point", "two points, delays", "timing, decoder model"],
)
def test_the_frame_size_of_av1_is_found(header):
    unit = bytes([0x0A, len(header)]) + header
    assert frame_sizes(bytes([0x12, 0]) + unit) == {(1000, 300)}
    assert frame_sizes(bytes([0x0E, 0, len(header)]) + header) == {(1000, 300)}
    for cut in (b"", bytes([0x12, 0]), unit[:4], bytes([0x0A, 0x80])):
        with pytest.raises(Av1Error):
            frame_sizes(cut)


@needs_avif
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_avif_raises_nothing_but_image_errors(data):
    whole = bytearray(AVIF)
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(whole[: data.draw(st.integers(0, len(whole)))]), max_pixels=10_000)
    except ImageError:
        return
    assert bool(((image >= 0) & (image <= 1)).all())


@needs_avif
def test_damaged_avif_is_called_so():
    data = encoded(BYTES, "AVIF")
    for content in (data[:40], data.replace(b"av1C", b"free"), data[:-20]):
        with pytest.raises(ImageError, match=r"damaged|truncated") as caught:
            read_image(content)
        assert caught.value.code == "bad_image"
    frames = [Image.fromarray(BYTES), Image.fromarray(255 - BYTES)]
    moving = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="more than one frame") as caught:
        read_image(moving)
    assert caught.value.code == "animated"


def test_avif_without_a_codec_is_named(monkeypatch):
    brands = b"ftypmif1" + bytes(4) + b"miafavif"
    data = struct.pack(">I", len(brands) + 4) + brands + bytes(64)
    monkeypatch.setattr(avif, "has_codec", lambda: False)
    for call in (read_image, size_of_file, lambda source: decode_file(source, 100)):
        with pytest.raises(ImageError, match=r"AVIF image, which this Pillow can't .* 11\.3"):
            call(data)
