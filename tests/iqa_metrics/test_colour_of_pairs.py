"""Pairs are compared in sRGB, what can't be converted is judged, and results say what was done."""

import csv
import json

import numpy as np
import pytest
import torch
from material import encoded, stored
from PIL import Image
from profiles import (
    P3,
    RGB,
    RGB16,
    TABLES,
    WIDE,
    chrm,
    chunk,
    cicp,
    fixed,
    gama,
    gamma,
    grey_profile,
    iccp,
    png,
    profile,
    rgb_profile,
    steps,
    text,
    to_space,
)
from typer.testing import CliRunner

from iqa_metrics import ImageError, Pair, create_metric, read_image, score, score_pairs, score_table
from iqa_metrics.cli import app
from iqa_metrics.io.readahead import read_ahead

CMYK = profile({"desc": text("press"), "A2B0": b"mft2" + bytes(40)}, space=b"CMYK", kind=b"prtr")
FLAT = profile(
    {
        "desc": text("flat"),
        **{f"{c}XYZ": b"XYZ " + bytes(4) + fixed(0.4, 0.2, 0.1) for c in "rgb"},
        **{f"{c}TRC": gamma(2.2) for c in "rgb"},
    }
)
HDR = profile(
    {"desc": text("HDR"), "cicp": b"cicp" + bytes(4) + bytes([9, 16, 0, 1])}, kind=b"mntr"
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory, photographs):
    """A photograph in sRGB, the same in Display P3 with its profile, and these bytes without it."""
    folder = tmp_path_factory.mktemp("wide")
    photograph = photographs["astronaut"]
    converted_ = steps(to_space(photograph / 255, WIDE))
    (folder / "reference.png").write_bytes(png(photograph))
    (folder / "tagged.png").write_bytes(png(converted_, iccp(P3)))
    (folder / "untagged.png").write_bytes(png(converted_))
    return folder


@pytest.mark.parametrize(
    ("metric", "as_stored", "rounded"), [("psnr", 37.27, 57.8), ("default", 0.398, 0.12)]
)
def test_a_photograph_in_display_p3_is_the_same_photograph(wide, metric, as_stored, rounded):
    pair = wide / "reference.png", wide / "tagged.png"
    assert score(*pair, metric) == pytest.approx(rounded, rel=0.07)
    assert score(*pair, metric, colour="ignore") == pytest.approx(as_stored, rel=0.01)
    images = [Image.open(path) for path in pair]
    assert score(*images, metric) == score(*pair, metric)


def test_a_profile_alone_is_a_difference(wide):
    pair = wide / "tagged.png", wide / "untagged.png"
    assert score(*pair, "psnr") == pytest.approx(37.27, abs=0.2)
    assert score(*pair, "psnr", colour="ignore") == float("inf")


UNCONVERTED = {
    "CMYK": (RGB, [iccp(CMYK)], "CMYK profile 'press' in an RGB image"),
    "grey": (RGB, [iccp(grey_profile("grey", gamma(1.8)))], "GRAY profile 'grey' in an RGB"),
    "no profile": (RGB, [iccp(bytes(200))], "damaged ICC profile"),
    "cut off": (RGB, [iccp(P3[:250])], "damaged ICC profile"),
    "tables in 16 bits": (RGB16, [iccp(TABLES)], "cut this image's values to 8 bits"),
    "damaged tables": (
        RGB,
        [iccp(profile({"desc": text("x"), "A2B0": b"mft2" + bytes(40)}))],
        "littleCMS",
    ),
    "a line of primaries": (RGB, [iccp(FLAT)], "on one line"),
    "a device link": (RGB, [iccp(rgb_profile("Display P3", kind=b"link"))], "does not describe"),
    "PQ": (RGB, [cicp(9, 16, 0, 1)], "PQ (HDR)"),
    "HLG": (RGB, [cicp(9, 18, 0, 1)], "HLG (HDR)"),
    "PQ in a profile": (RGB, [iccp(HDR)], "PQ (HDR)"),
    "limited range": (RGB, [cicp(1, 13, 0, 0)], "full-range RGB"),
    "unknown code points": (RGB, [cicp(99, 13, 0, 1)], "not known"),
    "no primaries": (RGB, [chrm((0.3, 0, 0.3, 0, 0.3, 0))], "primaries"),
    "no gamma": (RGB, [gama(0)], "a gamma of 0"),
}


@pytest.mark.parametrize("kind", UNCONVERTED)
def test_what_cant_be_converted_is_refused_unless_both_state_the_same(kind):
    array, chunks, words = UNCONVERTED[kind]
    data, darker, plain = png(array, *chunks), png(array // 2, *chunks), png(array)
    with pytest.raises(ImageError) as caught:
        read_image(data, name="the image")
    assert caught.value.code == "bad_colour"
    assert words in str(caught.value)
    assert str(caught.value).startswith("the image: its colours can't be converted to sRGB")
    assert "colour='ignore'" in str(caught.value)
    assert torch.equal(read_image(data, colour="ignore"), stored(array))
    for pair in ((data, plain), (plain, data), (data, array)):
        with pytest.raises(ImageError, match="does not state the same") as caught:
            score(*pair, "psnr")
        assert caught.value.code == "bad_colour"
        assert score(*pair, "psnr", colour="ignore") == float("inf")
    assert score(data, darker, "psnr") == score(plain, png(array // 2), "psnr")


def test_tables_can_be_applied_to_8_bits_alone():
    shallow, deep = png(RGB, iccp(TABLES)), png(RGB16, iccp(TABLES))
    for pair, role in (((shallow, deep), "distorted"), ((deep, shallow), "reference")):
        with pytest.raises(ImageError, match="other image, which states the same, can be") as found:
            score(*pair, "psnr")
        assert str(found.value).startswith(f"{role}: its colours")


def test_the_peak_of_the_type_keeps_the_depth_of_the_pixels():
    data = png(RGB, iccp(TABLES))
    assert torch.equal(read_image(data, peak=255), read_image(data))
    deep = png(RGB16, iccp(P3))
    assert torch.equal(read_image(deep, peak=65535), read_image(deep))
    with pytest.raises(ImageError, match="8 bits"):
        read_image(data, peak=510)


def test_other_profiles_that_cant_be_converted_do_not_agree():
    other = profile({"desc": text("fax"), "A2B0": b"mft2" + bytes(40)}, space=b"CMYK", kind=b"prtr")
    with pytest.raises(ImageError, match="reference: its colours"):
        score(png(RGB, iccp(CMYK)), png(RGB, iccp(other)), "psnr")
    # What is damaged in the file itself has no content that could be the same.
    broken = png(RGB, chunk(b"iCCP", b"icc\0\0not compressed"))
    with pytest.raises(ImageError, match="a damaged ICC profile"):
        score(broken, broken, "psnr")


def test_the_range_is_checked_before_colours_are_converted():
    bright = Image.fromarray(np.full((4, 4), 1.5, np.float32))
    data = encoded(bright, "TIFF", icc_profile=grey_profile("grey gamma 1.8", gamma(1.8)))
    with pytest.raises(ImageError, match="clamp") as caught:
        read_image(data)
    assert caught.value.code == "out_of_range"


def test_an_unknown_choice_is_refused(wide, tmp_path):
    path = wide / "reference.png"
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"reference,distorted\n{path},{path}\n")
    for call in (
        lambda: read_image(path, colour="p3"),
        lambda: score(path, path, "psnr", colour=None),
        lambda: score_pairs([Pair(str(path), str(path))], {}, colour="sRGB"),
        lambda: score_table(pairs, tmp_path / "x.csv", ["psnr"], colour=True),
    ):
        with pytest.raises(ValueError, match=r"colour: expected 'srgb' .* or 'ignore'"):
            call()
    assert not (tmp_path / "x.csv").exists()


@pytest.fixture
def table(wide, tmp_path):
    """Pairs of all kinds: nothing to do, one converted, both, both unconverted, one unconverted."""
    (tmp_path / "press.png").write_bytes(png(RGB, iccp(CMYK)))
    (tmp_path / "plain.png").write_bytes(png(RGB))
    (tmp_path / "wide.png").write_bytes(png(RGB, iccp(P3)))
    adobe = rgb_profile("Adobe RGB", curve=gamma(2.2))
    (tmp_path / "adobe.png").write_bytes(png(RGB, iccp(adobe)))
    names = ["plain,plain", "plain,wide", "wide,wide", "adobe,wide", "press,press", "press,plain"]
    rows = [",".join(f"{name}.png" for name in pair.split(",")) for pair in names]
    (tmp_path / "pairs.csv").write_text("\n".join(["reference,distorted", *rows, ""]))
    return tmp_path


PRESS = "the CMYK profile 'press' in an RGB image"
DONE = [
    "",
    "distorted: Display P3 to sRGB",
    "both: Display P3 to sRGB",
    "reference: Adobe RGB to sRGB; distorted: Display P3 to sRGB",
    f"both: not converted, {PRESS}",
    "",
]
IGNORED = [
    "",
    "distorted: Display P3 ignored",
    "both: Display P3 ignored",
    "reference: Adobe RGB ignored; distorted: Display P3 ignored",
    f"both: {PRESS}: ignored",
    f"reference: {PRESS}: ignored",
]


@pytest.mark.parametrize(("colour", "done"), [("srgb", DONE), ("ignore", IGNORED)])
def test_a_table_says_what_was_done(table, colour, done):
    out = table / "scores.csv"
    score_table(table / "pairs.csv", out, ["psnr"], colour=colour)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["colour"] for row in rows] == done
    assert [row["error"].split(":")[0] for row in rows[:5]] == [""] * 5
    assert rows[5]["error"].startswith("bad_colour: reference: " if colour == "srgb" else "")
    assert rows[2]["value"] == "inf"
    whole = out.read_bytes()
    for size in (len(whole) // 2, len(whole)):
        out.write_bytes(whole[:size])
        score_table(table / "pairs.csv", out, ["psnr"], colour=colour, resume=True)
        assert out.read_bytes() == whole


def test_rows_have_no_colour_without_a_value(table):
    pairs = [Pair("plain.png", "wide.png", table)]
    metrics = {"psnr": create_metric("psnr"), "ms_ssim": create_metric("ms_ssim")}
    rows = list(score_pairs(pairs, metrics))  # 12x16 is too small for MS-SSIM
    assert [(row.value is None, row.colour) for row in rows] == [
        (False, "distorted: Display P3 to sRGB"),
        (True, ""),
    ]


def test_the_command_says_what_was_done(table):
    def iqa(*arguments):
        return CliRunner().invoke(app, ["score", *map(str, arguments), "-m", "psnr"])

    plain, wide, press = (table / f"{name}.png" for name in ("plain", "wide", "press"))
    (row,) = json.loads(iqa(plain, wide, "--json").stdout)
    assert row["colour"] == "distorted: Display P3 to sRGB"
    assert row["value"] < 40
    assert json.loads(iqa(plain, plain, "--json").stdout)[0]["colour"] is None
    assert "\tdistorted: Display P3 to sRGB\n" in iqa(plain, wide).stdout
    assert iqa(plain, wide, "--colour", "ignore").stdout.startswith("psnr\tinf\t")
    refused = iqa(plain, press)
    assert (refused.exit_code, "bad_colour" in refused.stderr) == (1, True)
    wrong = iqa(plain, wide, "--colour", "p3")
    assert wrong.exit_code == 2
    assert "--colour: expected srgb or ignore, got 'p3'" in wrong.stderr


def test_reading_ahead_says_what_was_done(table):
    pairs = [Pair("plain.png", "wide.png", table), Pair("plain.png", "press.png", table)]
    parts = read_ahead(pairs, workers=1, background=None, pin=False)
    (part,) = parts
    assert [row.colour for row in part.rows] == ["distorted: Display P3 to sRGB", ""]
    assert part.rows[1].problem.startswith("bad_colour: distorted: ")
