"""PGM and PPM files are exact, whatever their maximum value and form."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import planes
from PIL import Image

from iqa_metrics import ImageError, read_image, score

RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(0, 101, (4, 6, 3))


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
    assert torch.equal(image, planes(samples.astype(np.float32) / np.float32(peak)))


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
    assert torch.equal(image, planes([[0, 0.5], [0.25, 1]]))


def test_long_plain_files_are_read_in_blocks(monkeypatch):
    from iqa_metrics.io import netpbm as module

    samples = RNG.integers(0, 1000, (9, 11, 3))
    content = netpbm(samples, 999, plain=True).replace(b"\n", b" # a comment\n")
    for block in (1, 2, 3, 7, 64):
        monkeypatch.setattr(module, "_BLOCK", block)
        image = read_image(content)
        assert torch.equal(image, planes(samples.astype(np.float32) / np.float32(999)))


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


def test_pil_images_of_pgm_and_ppm_are_refused_where_pillow_rescales():
    for shape, peak, fine in (
        *(((5, 7), 255, True), ((5, 7, 3), 255, True), ((5, 7), 65535, True)),
        *(((5, 7), 100, False), ((5, 7), 1023, False), ((5, 7, 3), 65535, False)),
    ):
        for plain in (False, True):
            data = netpbm(RNG.integers(0, peak + 1, shape), peak, plain)
            picture = Image.open(io.BytesIO(data))
            if fine:
                assert torch.equal(read_image(picture), read_image(data))
            else:
                with pytest.raises(ImageError, match="path or bytes"):
                    read_image(picture)


def test_the_time_limit_holds():
    content = netpbm(RNG.integers(0, 1000, (300, 300)), 999, plain=True)
    with pytest.raises(ImageError) as caught:
        read_image(content, max_seconds=0.0)
    assert caught.value.code == "too_slow"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_but_image_errors(data):
    whole = bytearray(netpbm(SAMPLES, 100, data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(whole[: data.draw(st.integers(0, len(whole)))]), max_pixels=10_000)
    except ImageError:
        return
    assert bool(((image >= 0) & (image <= 1)).all())
