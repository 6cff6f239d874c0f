"""The paper's plan, end to end on small databases in the layouts of TID2013 and KADID-10k."""

import csv
import dataclasses
import html
import re
import sys

import numpy as np
import pytest
from material import REPOSITORY
from PIL import Image
from study_material import small_network

from iqa_metrics.report import write_report
from iqa_metrics.study import estimate, network, plan_of, read_distances, run_study

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SIDE = (40, 32)


def picture(random):
    small = Image.fromarray((random.random((4, 5, 3)) * 255).astype(np.uint8))
    return np.asarray(small.resize(SIDE), dtype=float)


def distorted(image, kind, level, random):
    """Each kind of distortion is a mixture of noise, darkening and blur."""
    strength = level * (0.5 + kind / 25)
    found = image
    if kind % 3 != 0:
        found = found + random.normal(0, 4 * strength, image.shape)
    if kind % 3 != 1:
        found = found * (1 - 0.05 * strength)
    if kind % 2:
        for _ in range(level):
            found = (found + np.roll(found, 1, 0) + np.roll(found, 1, 1)) / 3
    return np.clip(found, 0, 255).astype(np.uint8)


def make_tid2013(folder):
    random = np.random.default_rng(13)
    for name in ("reference_images", "distorted_images"):
        (folder / name).mkdir(parents=True)
    lines = []
    for image in range(1, 26):
        whole = picture(random)
        Image.fromarray(whole.astype(np.uint8)).save(folder / f"reference_images/I{image:02}.BMP")
        for kind in range(1, 25):
            for level in range(1, 6):
                name = f"i{image:02}_{kind:02}_{level}.bmp"
                changed = distorted(whole, kind, level, random)
                Image.fromarray(changed).save(folder / "distorted_images" / name)
                mos = np.clip(7 - level * (0.5 + kind / 25) + random.normal(0, 0.5), 0, 9)
                lines.append(f"{mos:.5f} {name.upper()}\r\n")
    (folder / "mos_with_names.txt").write_text("".join(lines))


def make_kadid10k(folder):
    random = np.random.default_rng(10)
    (folder / "images").mkdir(parents=True)
    rows = ["dist_img,ref_img,dmos,var"]
    for image in range(1, 82):
        whole = picture(random)
        Image.fromarray(whole.astype(np.uint8)).save(folder / f"images/I{image:02}.png")
        for kind in range(1, 26):
            for level in range(1, 6):
                name = f"I{image:02}_{kind:02}_{level:02}.png"
                changed = distorted(whole, kind, level, random)
                Image.fromarray(changed).save(folder / "images" / name, compress_level=1)
                dmos = np.clip(5 - level * (0.3 + kind / 50) + random.normal(0, 0.3), 1, 5)
                rows.append(f"{name},I{image:02}.png,{dmos:.3f},0.5")
    (folder / "dmos.csv").write_text("\n".join(rows))


@pytest.mark.slow
def test_the_papers_plan_end_to_end(tmp_path):
    """Both databases and its readouts and concatenations, with small networks of its kinds."""
    facts = tomllib.loads((REPOSITORY / "examples" / "paper.toml").read_text(encoding="utf-8"))
    for make, one in zip((make_tid2013, make_kadid10k), facts["databases"], strict=True):
        make(tmp_path / one["folder"])
    # ms_ssim takes larger images, and the others have weights.
    facts |= {"backbones": [], "baselines": ["psnr", "ssim"], "statistics": {"draws": 20}}
    plan = plan_of(facts, tmp_path, tmp_path / "ladder")
    kinds = (
        ("vgg16", {"goal": "classification", "data": "ImageNet-1k", "family": "VGG"}),
        ("resnet50.places365", {"goal": "classification", "data": "Places365"}),
        ("alexnet.jigsaw", {"goal": "self-supervised", "method": "jigsaw", "data": "ImageNet-1k"}),
    )
    networks = [
        network(small_network(name, seed, **factors), ["relu1", "pool"])
        for seed, (name, factors) in enumerate(kinds)
    ]
    plan = dataclasses.replace(plan, networks=networks)
    said = estimate(plan, pairs=1)
    assert said.pairs == {"tid2013": 3000, "kadid10k": 10125}
    found = run_study(plan, tmp_path / "out")
    readouts, layers = len(plan.readouts), 2
    single = 2 + len(networks) * layers * readouts
    assert (found.rows, found.failed) == (13125 * single, 0)
    assert (said.distances, said.series.single) == (found.rows, single)
    measured = read_distances(tmp_path / "out" / "distances.parquet")
    assert {name: len(one.pairs) for name, one in measured.items()} == said.pairs
    assert {name: len(set(one.pairs.references)) for name, one in measured.items()} == {
        "tid2013": 25,
        "kadid10k": 81,
    }
    rows = found.analysis.correlations
    assert {row.database for row in rows} == {"tid2013", "kadid10k", "pooled"}
    whole = [row for row in rows if not row.distortion]
    assert len(whole) == 3 * said.series.total
    # Distances fall with MOS, and with what KADID-10k calls DMOS.
    plain = [row for row in whole if row.readout == "euclidean" and row.database != "pooled"]
    assert all(row.srocc < -0.3 for row in plain)
    assert {row.readout.split(":")[-1] for row in whole if ":" in row.readout} == {"joint", "sum"}
    weighted = [row for row in whole if row.readout == "weighted_euclidean"]
    assert len(weighted) == 3 * len(networks) * layers
    assert "concatenation" in {row.question for row in found.analysis.comparisons}
    assert found.analysis.claims
    page = write_report(tmp_path / "out")
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))
    assert facts["title"] in text
    for name in ("TID2013", "KADID-10k"):
        assert name in text
    # SSIM was published for both databases.
    assert "Comparison with published values" in text
    with (tmp_path / "out" / "models.csv").open(newline="") as file:
        assert {row["backbone"] for row in csv.DictReader(file)} >= {name for name, _ in kinds}
