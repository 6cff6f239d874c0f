"""Colours are what the file states: its profile or its chunks are applied."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from material import encoded, stored
from PIL import Image, ImageCms, features
from profiles import (
    GREY,
    P3,
    PRIMARIES,
    RGB,
    RGB16,
    RNG,
    SRGB_CURVE,
    TABLES,
    WIDE,
    chrm,
    chunk,
    cicp,
    colorants,
    from_space,
    gama,
    gamma,
    grey_profile,
    iccp,
    old_text,
    parametric,
    png,
    rgb_profile,
    sampled,
    srgb_light,
    srgb_values,
    table_profile,
)

from iqa_metrics import ImageError, read_image
from iqa_metrics.io.colour import converted
from iqa_metrics.io.images import read_with_colour
from iqa_metrics.io.stated_colour import Stated


def pixels(image):
    return image[0].permute(1, 2, 0).numpy()


CURVES = {
    "sRGB, parametric": parametric(*SRGB_CURVE),
    "five parameters and offsets": parametric(2.4, 0.9479, 0.0521, 0.0774, 0.0405, 0.0, 0.0),
    "gamma": gamma(1.8),
    "gamma, parametric": parametric(2.2),
    "three parameters": parametric(2.0, 0.95, 0.05),
    "four parameters": parametric(2.0, 0.9, 0.0, 0.1),
    "sampled": sampled(np.linspace(0, 1, 1024) ** 2.2),
    "linear": b"curv" + bytes(8),
}


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB", "BT.2020"])
def test_matrix_profiles_agree_with_littlecms(photographs, space, curve):
    icc = rgb_profile(space, curve=CURVES[curve])
    array = photographs["cat"][:40, :50].copy()
    expected = ImageCms.profileToProfile(
        Image.fromarray(array),
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    found = read_image(png(array, iccp(icc)))
    assert np.abs(pixels(found) * 255 - np.array(expected)).max() <= 1


def test_red_green_and_blue_have_curves_of_their_own():
    exponents = (1.8, 2.0, 2.4)
    icc = rgb_profile("BT.2020", curve=tuple(parametric(g) for g in exponents))
    expected = from_space(RGB / 255, PRIMARIES["BT.2020"], lambda v: v ** np.array(exponents))
    assert np.abs(pixels(read_image(png(RGB, iccp(icc)))) - expected).max() < 5e-4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_all_formats_carry_profiles(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(RGB, kind, icc_profile=P3, **options)
    raw = np.array(Image.open(io.BytesIO(data)))
    expected = from_space(raw / 255, WIDE)
    assert np.abs(pixels(read_image(data)) - expected).max() < 5e-4
    assert torch.equal(read_image(data, colour="ignore"), stored(raw))


def test_sixteen_bits_stay_whole():
    expected = from_space(RGB16 / 65535, WIDE)
    found = pixels(read_image(png(RGB16, iccp(P3))))
    # Fixed-point numbers of the profile, not steps of 8 bits, are the limit.
    assert np.abs(found - expected).max() < 5e-4
    ramp = np.repeat(np.arange(0, 65536, 16, dtype=np.uint16)[:, None, None], 3, axis=2)
    icc = rgb_profile("gamma", PRIMARIES["sRGB"], gamma(1.8))
    assert len(np.unique(pixels(read_image(png(ramp, iccp(icc))))[..., 0])) == len(ramp)


SRGBS = {
    "parametric": rgb_profile("sRGB"),
    "sampled": rgb_profile(
        "a name of its own",
        PRIMARIES["sRGB"],
        sampled(srgb_light(np.linspace(0, 1, 1024))),
        version=2,
        more={"desc": old_text("sRGB IEC61966-2.1")},
    ),
    # The primaries of profiles that many programs embed, as they were rounded.
    "Hewlett-Packard": rgb_profile(
        "sRGB IEC61966-2.1",
        curve=sampled(srgb_light(np.linspace(0, 1, 1024))),
        xyz=[
            [0.436066, 0.385147, 0.143066],
            [0.222488, 0.716873, 0.060608],
            [0.013916, 0.097076, 0.714096],
        ],
        version=2,
    ),
    "Ghostscript": rgb_profile(
        "sRGB",
        xyz=[
            [0.435852, 0.385330, 0.143021],
            [0.222382, 0.717041, 0.060593],
            [0.013916, 0.097137, 0.713837],
        ],
    ),
    "littleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
}


@pytest.mark.parametrize("icc", SRGBS)
def test_srgb_profiles_change_nothing(icc):
    for array in (RGB, RGB16, GREY):
        image, colour = read_with_colour(png(array, iccp(SRGBS[icc])))
        assert torch.equal(image, stored(array))
        assert colour.done == ""


@pytest.mark.parametrize(
    "icc",
    [
        rgb_profile("sRGB", curve=parametric(2.2)),
        rgb_profile("sRGB", (0.635, 0.33, 0.30, 0.60, 0.15, 0.06)),
    ],
    ids=["gamma 2.2", "other red"],
)
def test_what_is_merely_near_srgb_is_converted(icc):
    image, colour = read_with_colour(png(RGB, iccp(icc)))
    assert colour.done == "sRGB to sRGB"
    assert not torch.equal(image, stored(RGB))


def test_a_profile_counts_by_its_numbers_not_its_name():
    icc = rgb_profile("sRGB", curve=gamma(1.8))
    image, colour = read_with_colour(png(RGB, iccp(icc)))
    assert colour.done == "sRGB to sRGB"
    assert np.abs(pixels(image) - srgb_values((RGB / 255) ** (461 / 256))).max() < 5e-4


def test_grey_profiles_convert_the_tone_curve():
    image, colour = read_with_colour(png(GREY, iccp(grey_profile("grey gamma 1.8", gamma(1.8)))))
    assert colour.done == "grey gamma 1.8 to sRGB"
    expected = srgb_values((GREY / 255) ** (461 / 256))
    assert np.abs(pixels(image) - expected[..., None]).max() < 1e-5
    lightness = grey_profile("L*", b"curv" + bytes(8), connection=b"Lab ")
    image = read_image(png(GREY, iccp(lightness)))
    scaled = GREY / 255 * 100
    light = np.where(scaled > 8, ((scaled + 16) / 116) ** 3, scaled / 903.2963)
    assert np.abs(pixels(image) - srgb_values(light)[..., None]).max() < 1e-4
    same = grey_profile("sRGB grey", parametric(*SRGB_CURVE))
    assert torch.equal(read_image(png(GREY, iccp(same))), stored(GREY))


def test_a_grey_image_with_an_rgb_profile_stays_grey():
    # Display P3 has the tone curve of sRGB, so that its greys are those of sRGB.
    assert torch.equal(read_image(png(GREY, iccp(P3))), stored(GREY))
    icc = rgb_profile("Display P3", curve=gamma(1.8))
    image = pixels(read_image(png(GREY, iccp(icc))))
    expected = srgb_values((GREY / 255) ** (461 / 256))
    assert np.abs(image - expected[..., None]).max() < 5e-4


def test_alpha_is_left_alone():
    alpha = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
    image = read_image(png(np.dstack([RGB, alpha]), iccp(P3)), background=0.5)
    shown = alpha[..., None] / 255
    expected = shown * from_space(RGB / 255, WIDE) + (1 - shown) * 0.5
    assert np.abs(pixels(image) - expected).max() < 5e-4
    opaque = png(np.dstack([RGB16, np.full(GREY.shape, 65535, np.uint16)]), iccp(P3))
    assert torch.equal(read_image(opaque), read_image(png(RGB16, iccp(P3))))


def test_colours_outside_srgb_are_limited_to_it():
    green = np.full((1, 1, 3), [0, 255, 0], np.uint8)
    assert pixels(read_image(png(green, iccp(P3)))).ravel() == pytest.approx([0, 1, 0], abs=0.02)


def test_palettes_are_converted():
    palette = Image.fromarray(RGB).quantize(16)
    data = encoded(palette, "PNG", icc_profile=P3)
    expected = from_space(np.array(palette.convert("RGB")) / 255, WIDE)
    assert np.abs(pixels(read_image(data)) - expected).max() < 5e-4


@pytest.mark.skipif(not features.check("littlecms2"), reason="this Pillow has no littleCMS")
def test_profiles_of_tables_are_applied_to_eight_bits(photographs):
    array = photographs["cat"][:40, :50]
    image, colour = read_with_colour(png(array, iccp(TABLES)))
    assert colour.done == "scanner to sRGB"
    # The grid of the tables is coarse, above all in the dark.
    difference = np.abs(pixels(image) - from_space(array / 255, WIDE))
    assert difference.mean() < 0.5 / 255
    assert difference.max() < 5 / 255
    same = table_profile("sRGB tables", lambda v: srgb_light(v) @ colorants(PRIMARIES["sRGB"]).T)
    with pytest.raises(ImageError, match="littleCMS would cut"):
        read_image(png(RGB16, iccp(same)))


PNG_CHUNKS = {
    "gamma of 1.8": ([gama(1 / 1.8)], lambda v: srgb_values(v**1.8)),
    "linear": ([gama(1.0)], srgb_values),
    "primaries": ([chrm(WIDE)], lambda v: from_space(v, WIDE)),
    "primaries and gamma": (
        [chrm(PRIMARIES["Adobe RGB"]), gama(1 / 1.8)],
        lambda v: from_space(v, PRIMARIES["Adobe RGB"], lambda u: u**1.8),
    ),
    "Display P3 by code points": ([cicp(12, 13, 0, 1)], lambda v: from_space(v, WIDE)),
    "linear BT.2020 by code points": (
        [cicp(9, 8, 0, 1)],
        lambda v: from_space(v, PRIMARIES["BT.2020"], lambda u: u),
    ),
    "BT.709 by code points": (
        [cicp(1, 1, 0, 1)],
        lambda v: srgb_values(np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))),
    ),
    "code points before a profile": (
        [cicp(12, 13, 0, 1), iccp(rgb_profile("Adobe RGB", curve=gamma(1.8)))],
        lambda v: from_space(v, WIDE),
    ),
    "a profile before other chunks": (
        [gama(1.0), chrm(PRIMARIES["Adobe RGB"]), iccp(P3)],
        lambda v: from_space(v, WIDE),
    ),
}


@pytest.mark.parametrize("kind", PNG_CHUNKS)
@pytest.mark.parametrize("array", [RGB, RGB16], ids=["8 bits", "16 bits"])
def test_chunks_of_png_are_applied(kind, array):
    chunks, expected = PNG_CHUNKS[kind]
    image, colour = read_with_colour(png(array, *chunks))
    assert np.abs(pixels(image) - expected(array / np.iinfo(array.dtype).max)).max() < 1e-3
    assert colour.done.endswith(" to sRGB")


@pytest.mark.parametrize(
    "chunks",
    [
        [gama(1 / 2.2)],
        [gama(1 / 2.2), chrm(PRIMARIES["sRGB"])],
        [chunk(b"sRGB", b"\0"), gama(1.0), chrm(WIDE)],
        [cicp(1, 13, 0, 1), iccp(P3)],
        [cicp(2, 2, 0, 1)],
    ],
    ids=["gamma", "gamma and primaries", "srgb", "code points", "unspecified"],
)
def test_chunks_that_stand_for_srgb_change_nothing(chunks):
    image, colour = read_with_colour(png(RGB, *chunks))
    assert torch.equal(image, stored(RGB))
    assert colour.done == ""


def test_adobe_rgb_by_exif_is_converted():
    def with_exif(space, interop):
        exif = Image.Exif()
        exif[0x8769] = {0xA001: space, 0xA005: {1: interop}}
        return encoded(RGB, "PNG", exif=exif)

    expected = from_space(RGB / 255, PRIMARIES["Adobe RGB"], lambda v: v ** (563 / 256))
    for data in (with_exif(0xFFFF, "R03"), with_exif(2, "R98")):
        image, colour = read_with_colour(data)
        assert np.abs(pixels(image) - expected).max() < 1e-5
        assert colour.done == "Adobe RGB to sRGB"
    for data in (with_exif(1, "R03"), with_exif(1, "R98"), with_exif(0xFFFF, "R98")):
        assert torch.equal(read_image(data), stored(RGB))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(PRIMARIES)),
    st.floats(1.0, 3.0),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.integers(0, 255),
)
def test_neutral_colours_stay_neutral_and_white_stays_white(space, exponent, dtype, level):
    icc = rgb_profile(space, curve=parametric(exponent))
    peak = 1 if dtype is np.float32 else np.iinfo(dtype).max
    values = np.array([[[0] * 3, [level / 255] * 3, [1] * 3]]) * peak
    array = values.astype(dtype)
    found, _ = converted(array, Stated(icc=icc), "srgb")
    found = array.astype(np.float32).transpose(2, 0, 1) / peak if found is None else found
    black, grey, white = found[:, 0].T
    assert white == pytest.approx([1] * 3, abs=2e-4)
    assert black == pytest.approx([0] * 3, abs=1e-6)
    assert np.ptp(grey) < 1e-3
    light = (array[0, 1, 0] / peak) ** exponent
    assert grey[0] == pytest.approx(float(srgb_values(light)), abs=3e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4096), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 2**32 - 1))
def test_a_profile_that_is_the_identity_changes_nothing(count, dtype, seed):
    array = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (5, 7, 3), dtype)
    curve = sampled(srgb_light(np.linspace(0, 1, count + 1024)))
    found, colour = converted(array, Stated(icc=rgb_profile("sRGB", curve=curve)), "srgb")
    assert found is None
    assert colour.done == ""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_profiles_raise_nothing_but_image_errors(data):
    whole = bytearray(data.draw(st.sampled_from([P3, TABLES[:6000], SRGBS["sampled"]])))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    image, colour = read_with_colour(png(RGB, iccp(bytes(whole))))
    if colour.problem:
        assert torch.equal(image, stored(RGB))
    assert bool(((image >= 0) & (image <= 1)).all())
