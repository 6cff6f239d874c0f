"""Conventions and masks of files: in score, in tables of pairs, and on the command line."""

import csv
import json
from contextlib import closing

import numpy as np
import pytest
import tifffile
import torch
from material import coded, encoded
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from typer.testing import CliRunner

from iqa_metrics import (
    DeepDistance,
    ImageError,
    Pair,
    PairTable,
    create_metric,
    read_image,
    score,
    score_pairs,
    score_table,
)
from iqa_metrics.cli import app
from iqa_metrics.io.readahead import WINDOW, read_ahead
from iqa_metrics.io.resuming import written
from iqa_metrics.scoring.batches import BatchScorer
from iqa_metrics.scoring.inputs import pairs_of

OF_SKIMAGE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.fixture(scope="module")
def arrays():
    """A photograph and the same as JPEG of quality 10, uint8."""
    reference = data.astronaut()[:128, :160]
    return reference, coded(reference)


@pytest.fixture(scope="module")
def folder(arrays, tmp_path_factory):
    """A folder with the pair, a mask of its left half, and the pair as 12 bits in 16."""
    folder = tmp_path_factory.mktemp("pairs")
    for name, array in zip(("a", "b"), arrays, strict=True):
        Image.fromarray(array).save(folder / f"{name}.png")
        tifffile.imwrite(folder / f"{name}12.tif", deep(array), photometric="rgb")
    Image.fromarray(left(arrays[0]).astype(np.uint8) * 255).save(folder / "left.png")
    return folder


def deep(array):
    return (array.astype(np.uint16) * 4095 + 127) // 255


def left(array):
    weights = np.zeros(array.shape[:2])
    weights[:, : array.shape[1] // 2] = 1
    return weights


def test_twelve_bits_in_sixteen_have_their_own_peak(arrays, folder):
    pair = [folder / "a12.tif", folder / "b12.tif"]
    x, y = (deep(array) for array in arrays)
    psnr = peak_signal_noise_ratio(x, y, data_range=4095)
    ssim = structural_similarity(
        x.astype(float), y.astype(float), data_range=4095, channel_axis=2, **OF_SKIMAGE
    )
    assert score(*pair, "psnr", peak=4095) == pytest.approx(psnr, rel=1e-5)
    assert score(*pair, create_metric("psnr", peak=4095)) == pytest.approx(psnr, rel=1e-5)
    assert score(*pair, "ssim", peak=4095) == pytest.approx(ssim, rel=1e-5)
    # By the greatest number of 16 bits it would look far better.
    assert score(*pair, "psnr") == pytest.approx(psnr + 20 * np.log10(65535 / 4095), rel=1e-4)


@pytest.mark.parametrize("kind", ["array", "tensor", "floats", "pil"])
def test_a_peak_of_what_is_in_memory(kind, arrays):
    reference = arrays[0]
    made = {
        "array": reference,
        "tensor": torch.from_numpy(reference.copy()).permute(2, 0, 1),
        "floats": reference.astype(np.float32),
        "pil": Image.fromarray(reference),
    }[kind]
    assert torch.allclose(read_image(made, peak=510), read_image(reference) / 2, atol=1e-7)


def test_alpha_is_not_scaled(arrays):
    opaque = np.dstack([arrays[0], np.full(arrays[0].shape[:2], 255, np.uint8)])
    assert torch.allclose(read_image(opaque, peak=510), read_image(arrays[0]) / 2, atol=1e-7)


def test_a_pgm_has_the_peak_of_its_samples(tmp_path):
    samples = np.array([[0, 100, 200, 300]], dtype=">u2")
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5 4 1 1000\n" + samples.tobytes())
    assert torch.allclose(read_image(path)[0, 0, 0], torch.tensor([0, 0.1, 0.2, 0.3]))
    assert torch.allclose(read_image(path, peak=400)[0, 0, 0], torch.tensor([0, 0.25, 0.5, 0.75]))


def test_values_above_the_peak_are_refused(arrays):
    with pytest.raises(ImageError, match="values from") as caught:
        read_image(arrays[0], peak=100)
    assert caught.value.code == "out_of_range"
    with pytest.raises(ValueError, match="peak: expected the value of white"):
        read_image(arrays[0], peak=-1)


def test_score_takes_a_mask_of_any_kind(arrays, folder):
    pair = [folder / "a.png", folder / "b.png"]
    weights = left(arrays[0])
    expected = score(*(array[:, :80] for array in arrays), "mse")
    for mask in (folder / "left.png", weights, weights.astype(bool), torch.from_numpy(weights)):
        assert score(*pair, "mse", mask=mask) == pytest.approx(expected, rel=1e-6)


def test_a_mask_in_colours_or_for_another_metric_is_refused(folder):
    pair = [folder / "a.png", folder / "b.png"]
    with pytest.raises(ImageError, match="expected one grey image"):
        score(*pair, "mse", mask=folder / "a.png")
    with pytest.raises(ImageError, match="takes no mask") as caught:
        score(*pair, "efficientnet_lite0:block3:gram", mask=folder / "left.png")
    assert caught.value.code == "bad_mask"


@pytest.fixture(scope="module")
def table(folder):
    """A table whose rows have conventions and masks of their own, with one reference."""
    path = folder / "pairs.csv"
    path.write_text(
        "reference,distorted,space,border,peak,mask,note\n"
        "a.png,b.png,,,,,plain\n"
        "a.png,b.png,y,4,,,luma\n"
        "a.png,b.png,,,,left.png,masked\n"
        "a12.tif,b12.tif,y,,4095,left.png,deep\n"
        "a.png,b.png,rgb,0,510,,peak\n"
        "a.png,b.png,hsv,,,,wrong\n"
        "a.png,b.png,,,,absent.png,no mask\n"
    )
    return path


def test_rows_of_a_table_have_conventions_of_their_own(table, folder, tmp_path):
    out = tmp_path / "scores.csv"
    done = score_table(table, out, ["psnr", "ms_ssim"], border=2)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    found = {row["note"]: row for row in rows if row["metric"] == "psnr"}
    pair, deep_pair = (("a.png", "b.png"), ("a12.tif", "b12.tif"))
    asked = {
        "plain": {"border": 2},
        "luma": {"space": "y", "border": 4},
        "masked": {"border": 2, "mask": folder / "left.png"},
        "deep": {"space": "y", "border": 2, "peak": 4095, "mask": folder / "left.png"},
        "peak": {"peak": 510},
    }
    for note, options in asked.items():
        images = [folder / name for name in (deep_pair if note == "deep" else pair)]
        expected = score(*images, "psnr", **options)
        assert float(found[note]["value"]) == pytest.approx(expected, rel=1e-6), note
    assert found["wrong"]["error"].startswith("bad_row: space: expected one of rgb, y, y8")
    assert found["no mask"]["error"].startswith("not_found: mask ")
    # 128x160 is too small for MS-SSIM, and it takes no mask.
    assert done.failed == 2 + len(rows) // 2
    signatures = {note: row["signature"] for note, row in found.items()}
    assert "|space:y|border:4|peak:type|" in signatures["luma"]
    assert "|space:y|border:2|peak:4095|mask:" in signatures["deep"]
    assert "|mask:" in signatures["masked"]
    assert "|mask:" not in signatures["plain"]
    assert signatures["wrong"] == ""
    assert len(set(signatures.values())) == 6


def test_a_table_with_conventions_is_resumed_to_the_same_bytes(arrays, tmp_path):
    for name, array in zip(("a", "b"), arrays, strict=True):
        Image.fromarray(array[:24, :20]).save(tmp_path / f"{name}.png")
    Image.fromarray((left(arrays[0][:24, :20]) * 255).astype(np.uint8)).save(tmp_path / "left.png")
    kinds = [",,,", "y,4,,", ",,,left.png", "y8,,510,left.png", "hsv,,,", ",2,,absent.png"]
    table, whole, part = (tmp_path / f"{name}.csv" for name in ("pairs", "whole", "part"))
    rows = [f"a.png,b.png,{kinds[n % len(kinds)]}" for n in range(WINDOW + 8)]
    table.write_text("\n".join(["reference,distorted,space,border,peak,mask", *rows, ""]))
    metrics = ["psnr", "ssim"]
    done = score_table(table, whole, metrics)
    lines = whole.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[: 1 + 2 * WINDOW + 3]) + lines[-1][:5])
    kept = written(part, PairTable.open(table), metrics, WINDOW)
    assert (kept.pairs, kept.finished) == (WINDOW, False)
    assert score_table(table, part, metrics, resume=True) == done
    assert part.read_bytes() == whole.read_bytes()


def test_rows_of_other_conventions_are_not_added(folder, tmp_path):
    pairs, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    row = f"{folder / 'a.png'},{folder / 'b.png'}\n"
    pairs.write_text("reference,distorted\n" + 66 * row)
    score_table(pairs, out, ["mse"])
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:66]))
    for options in ({"space": "y"}, {"colour": "ignore"}, {"background": 0.5}):
        with pytest.raises(ValueError, match="rows have the signature"):
            score_table(pairs, out, ["mse"], resume=True, **options)
    score_table(pairs, out, ["mse"], resume=True)
    assert out.read_text() == "".join(lines)


def test_a_pair_object_with_a_wrong_convention_is_a_row(folder):
    pair = Pair(str(folder / "a.png"), str(folder / "b.png"), carried={"space": "lab"})
    (row,) = score_pairs([pair], "mse")
    assert row.error.startswith("bad_row: space: expected one of")


def test_a_pair_object_has_the_mask_that_it_carries(folder):
    images = [str(folder / "a.png"), str(folder / "b.png")]
    (row,) = score_pairs([Pair(*images, carried={"mask": str(folder / "left.png")})], "mse")
    assert row.value == pytest.approx(score(*images, "mse", mask=folder / "left.png"))
    assert row.value != pytest.approx(score(*images, "mse"))


def test_pairs_in_memory_have_conventions_too(arrays):
    reference, distorted = arrays
    pairs = [
        {"reference": reference, "distorted": distorted, "border": 4.0, "space": None},
        {"reference": reference, "distorted": distorted, "mask": left(reference)},
    ]
    first, second = score_pairs(pairs, "mse")
    assert first.value == pytest.approx(score(*arrays, "mse", border=4))
    assert second.value == pytest.approx(score(*arrays, "mse", mask=left(reference)))


def test_a_mask_in_memory_is_not_carried(arrays):
    pair = dict(zip(("reference", "distorted"), arrays, strict=True)) | {"number": 3, "border": 4}
    (row,) = score_pairs([pair | {"mask": left(arrays[0])}], "mse")
    assert row.carried == {"number": 3, "border": 4}
    assert "|mask:" in row.signature


def test_pairs_with_the_same_conventions_share_a_reference(arrays, monkeypatch):
    reference, distorted = arrays
    pairs = [
        {"reference": reference, "distorted": image, "border": border}
        for border in (0, 8, 0, 8)
        for image in (distorted, distorted[:, ::-1])
    ]
    metric, passes, remembered = create_metric("efficientnet_lite0:stem:rmse"), [], []
    remember = DeepDistance.remember
    monkeypatch.setattr(
        DeepDistance, "remember", lambda *given: remembered.append(given) or remember(*given)
    )
    scorer = BatchScorer({metric.name: metric}, observe=lambda *seen: passes.append(seen[:2]))
    with closing(scorer):
        (part,) = read_ahead(pairs_of(pairs), workers=1, background=None, pin=False)
        rows = scorer.score(part)
    assert passes == [(metric.name, 4)] * 2
    assert len(remembered) == 2
    for pair, row in zip(pairs, rows, strict=True):
        expected = score(reference, pair["distorted"], row.metric, border=pair["border"])
        assert row.value == pytest.approx(expected, rel=1e-5)


def test_different_peaks_of_metrics_are_refused(arrays):
    metrics = {"a": create_metric("psnr", peak=255), "b": create_metric("mse")}
    with pytest.raises(ValueError, match="same peak"):
        score_pairs([arrays], metrics)


def run(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_command_line_takes_conventions(folder):
    pair = [folder / "a.png", folder / "b.png"]
    options = ["--space", "y", "--border", "4", "--mask", folder / "left.png"]
    result = run(*pair, "-m", "psnr", *options, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    expected = score(*pair, "psnr", space="y", border=4, mask=folder / "left.png")
    assert row["value"] == pytest.approx(expected)
    assert row["signature"].startswith("psnr|colour:srgb|space:y|border:4|peak:type|mask:")
    text = run(*pair, "-m", "psnr", "-m", "ssim").stdout.splitlines()
    assert [line.split("\t")[0] for line in text[:2]] == ["psnr", "ssim"]
    assert [line[:7] for line in text[2:]] == ["# psnr|", "# ssim|"]
    deep_pair = [folder / "a12.tif", folder / "b12.tif"]
    text = run(*deep_pair, "-m", "psnr", "--peak", "4095").stdout
    assert float(text.split("\t")[1]) == pytest.approx(
        score(*deep_pair, "psnr", peak=4095), rel=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "lab"], "space: expected one of rgb, y, y8"),
        (["--peak", "0"], "peak: expected the value of white"),
        (["--border", "-1"], "--border"),
    ],
)
def test_the_command_line_refuses_others(options, message, folder):
    result = run(folder / "a.png", folder / "b.png", "-m", "psnr", *options)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")


def test_a_mask_is_for_one_pair(table, folder):
    result = run("--pairs", table, "--out", "-", "--mask", folder / "left.png")
    assert result.exit_code == 2
    assert "a table of pairs has a column mask" in result.output


def test_an_image_as_bytes_takes_a_mask_as_bytes(arrays):
    weights = encoded((left(arrays[0]) * 255).astype(np.uint8))
    expected = score(*arrays, "mse", mask=left(arrays[0]))
    assert score(*map(encoded, arrays), "mse", mask=weights) == pytest.approx(expected)
