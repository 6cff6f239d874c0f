"""Formats that are read by our own code: PGM and PPM, float TIFF, and the depth of AVIF."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import encoded, scan_bomb
from PIL import Image
from profiles import P3, PRIMARIES, from_space

from iqa_metrics import ImageError, read_image, score
from iqa_metrics.io import avif
from iqa_metrics.io.av1 import Av1Error, frame_sizes
from iqa_metrics.io.decoding import decode_file, size_of_file

RNG = np.random.default_rng(0)
FLOATS = RNG.random((21, 18, 3), dtype=np.float32)
GREYS = FLOATS[..., 0].copy()
BYTES = RNG.integers(0, 256, (21, 18, 3), dtype=np.uint8)


def expected(array):
    array = np.asarray(array, dtype=np.float32)
    array = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None]


def netpbm(samples, peak, plain=False, comment=""):
    channels = 3 if samples.ndim == 3 else 1
    magic = {(1, False): 5, (3, False): 6, (1, True): 2, (3, True): 3}[channels, plain]
    head = f"P{magic}{comment}\n{samples.shape[1]} {comment}{samples.shape[0]}\n{peak}\n".encode()
    if plain:
        return head + "\n".join(" ".join(map(str, row.ravel())) for row in samples).encode()
    return head + samples.astype(np.uint8 if peak < 256 else ">u2").tobytes()


@pytest.mark.parametrize("plain", [False, True], ids=["binary", "plain"])
@pytest.mark.parametrize("peak", [1, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)], ids=["pgm", "ppm"])
def test_pgm_and_ppm_are_exact_whatever_their_maximum(shape, peak, plain):
    samples = RNG.integers(0, peak + 1, shape)
    samples.flat[:2] = 0, peak
    image = read_image(netpbm(samples, peak, plain))
    # To the bit: the quotient in float32.
    assert torch.equal(image, expected(samples.astype(np.float32) / np.float32(peak)))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_sample_of_a_pgm_is_its_share_of_the_maximum(data):
    peak = data.draw(st.integers(1, 65535))
    samples = np.array(data.draw(st.lists(st.integers(0, peak), min_size=1, max_size=20)))[None]
    comment = data.draw(st.sampled_from(["", "\n# made by hand 12\n", " #\n"]))
    plain = data.draw(st.booleans())
    image = read_image(netpbm(samples, peak, plain, comment))
    assert np.array_equal(image[0, 0].numpy(), samples.astype(np.float32) / np.float32(peak))


def test_comments_and_blanks_between_plain_samples():
    content = b"P2 # one\n#two\n 2\t2\r\n100 0 #three 99\n  50\n\n25#\n 100 # end"
    image = read_image(content)
    assert torch.equal(image, expected([[0, 0.5], [0.25, 1]]))


def test_long_plain_files_are_read_in_blocks(monkeypatch):
    from iqa_metrics.io import netpbm as module

    samples = RNG.integers(0, 1000, (9, 11, 3))
    content = netpbm(samples, 999, plain=True).replace(b"\n", b" # a comment\n")
    for block in (1, 2, 3, 7, 64):
        monkeypatch.setattr(module, "_BLOCK", block)
        image = read_image(content)
        assert torch.equal(image, expected(samples.astype(np.float32) / np.float32(999)))


def test_twelve_bits_in_a_pgm_have_their_psnr(photographs):
    photograph = photographs["astronaut"].astype(np.float64)
    deep = np.round(photograph / 255 * 4095).astype(int)
    noisy = np.clip(deep + RNG.normal(0, 155, deep.shape), 0, 4095).round().astype(int)
    found = score(netpbm(deep, 4095), netpbm(noisy, 4095), "psnr")
    error = np.mean((deep - noisy) ** 2.0)
    assert found == pytest.approx(10 * np.log10(4095**2 / error), abs=1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5 2 2 0\n" + bytes(4), "maximum value 0"),
        (b"P5 2 2 65536\n" + bytes(8), "maximum value 65536"),
        (b"P5 2 2 100\n" + bytes([0, 0, 0, 101]), "101 exceeds the maximum 100"),
        (b"P5 2 2 255\n" + bytes(3), "truncated"),
        (b"P6 2 2 1023\n" + bytes(23), "truncated"),
        (b"P2 2 2 9\n1 2 3", "truncated"),
        (b"P2 2 2 9\n1 2 3 70000", "exceeds 65535"),
        (b"P2 2 2 9\n1 2 3 -4", "decimal numbers"),
        (b"P2 2 2 9\n1 2 3 " + b"1" * 5000, "decimal numbers"),
        (b"P5 2 x 255\n" + bytes(4), "expected a digit"),
        (b"P5 2", "expected a digit"),
        (b"P5 " + b"1" * 30 + b" 2 255\n", "too long"),
        (b"P5 0 2 255\n", "zero-sized"),
        (b"P5 100000 100000 255\n", "pixels"),
    ],
)
def test_damaged_pgm_and_ppm_are_refused(content, words):
    with pytest.raises(ImageError, match=words):
        read_image(content)


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
        assert torch.equal(read_image(data), expected(values))
        assert size_of_file(data) == (18, 21)
    planes = tiff(
        np.moveaxis(FLOATS.astype(dtype), 2, 0),
        planarconfig="separate",
        byteorder=order,
        **OPTIONS[kind],
    )
    assert torch.equal(read_image(planes), expected(FLOATS.astype(dtype)))


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
    assert torch.equal(read_image(data), expected(values))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_float_tiff_is_turned_upright_as_pillow_does(orientation):
    exact = np.round(FLOATS * 255).astype(np.uint8)
    turned = tiff(exact, extratags=[(274, "H", 1, orientation, True)])
    data = hand_made((exact / 255).astype("<f4"), tag274=(3, [orientation]))
    assert torch.allclose(read_image(data), read_image(turned), rtol=0, atol=1e-7)
    assert size_of_file(data) == tuple(read_image(data).shape[:1:-1])


def test_other_compressions_of_grey_floats_are_left_to_pillow():
    data = encoded(Image.fromarray(GREYS), "TIFF", compression="tiff_lzw")
    assert torch.equal(read_image(data), expected(GREYS))


def test_profiles_and_alpha_of_float_tiff():
    data = tiff(FLOATS, iccprofile=P3)
    found = read_image(data)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - from_space(FLOATS, PRIMARIES["Display P3"])).max() < 5e-4
    alpha = np.dstack([FLOATS, GREYS])
    shown = tiff(alpha, extrasamples=["unassalpha"])
    image = read_image(shown, background=1.0)
    composed = FLOATS * GREYS[..., None] + 1 - GREYS[..., None]
    assert torch.allclose(image, expected(composed), rtol=0, atol=1e-6)
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
    assert torch.equal(read_image(data), expected(ZEROS))


@pytest.mark.parametrize(
    "content",
    [
        netpbm(RNG.integers(0, 1000, (300, 300)), 999, plain=True),
        hand_made(np.zeros((400, 400, 3), "<f4")),
        scan_bomb(2000),
    ],
    ids=["plain pgm", "float tiff", "jpeg"],
)
def test_the_time_limit_holds_for_all_readers(content):
    with pytest.raises(ImageError) as caught:
        read_image(content, max_seconds=0.0)
    assert caught.value.code == "too_slow"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_of_our_own_readers_raise_nothing_but_image_errors(data):
    samples = BYTES[:4, :6] % 100
    whole = bytearray(
        data.draw(
            st.sampled_from(
                [
                    hand_made(ZEROS),
                    tiff(FLOATS, compression="zlib", rowsperstrip=5),
                    tiff(FLOATS, tile=(16, 16)),
                    netpbm(samples, 100),
                    netpbm(samples, 100, plain=True),
                ]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(whole[: data.draw(st.integers(0, len(whole)))]), max_pixels=10_000)
    except ImageError:
        return
    assert bool(((image >= 0) & (image <= 1)).all())


AVIF = encoded(BYTES, "AVIF") if avif.has_codec() else b""
needs_avif = pytest.mark.skipif(not avif.has_codec(), reason="this Pillow has no AVIF codec")


@needs_avif
def test_avif_of_eight_bits_is_read(photographs, tmp_path):
    data = encoded(photographs["cat"], "AVIF", quality=90)
    path = tmp_path / "image.avif"
    path.write_bytes(data)
    raw = np.array(Image.open(path))
    for limit in (None, 60.0):
        assert torch.equal(read_image(path, max_seconds=limit), expected(raw / np.float32(255)))
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
    assert torch.equal(read_image(stated(2, 2)), expected(raw.astype(np.float32)))
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
