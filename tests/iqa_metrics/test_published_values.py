"""The published values that come with the package, and what they are put beside."""

import csv
from dataclasses import dataclass, field
from importlib import resources
from types import SimpleNamespace

import pytest
from material import SHARED
from study_tables import BASELINES, write_study

from iqa_metrics import backbone
from iqa_metrics.metrics import all_metrics
from iqa_metrics.report import published_values, write_report
from iqa_metrics.report.published_values import COLUMNS, read_published
from iqa_metrics.report.tables import read_study

TABLE = resources.files("iqa_metrics.report") / "published.csv"


def rows():
    return list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))


@dataclass
class Row:
    """A correlation of a study, as far as published values need it."""

    database: str
    backbone: str
    layer: str = ""
    readout: str = ""
    srocc: float = -0.5
    distortion: str = field(default="")


def study(*measured, databases=("tid2013", "kadid10k", "tid2008")):
    return SimpleNamespace(
        correlations=measured, databases=[SimpleNamespace(name=name) for name in databases]
    )


def beside(*measured, path=None, **options):
    found = read_published(path, study(*measured), **options)
    return {(one.database, one.name, one.srocc) for one in found}


def test_the_table_has_the_facts_that_were_published():
    file = SHARED / "facts" / "published_results.csv"
    if not file.exists():
        pytest.skip(f"there is no {file}")
    with file.open(encoding="utf-8") as open_file:
        theirs = list(csv.DictReader(open_file))
    facts = [name for name in COLUMNS if name != "source"]
    assert [[row[name] for name in facts] for row in rows()] == [
        [row[name] for name in facts] for row in theirs
    ]
    # The attribution is kept, in other words.
    for ours, row in zip(rows(), theirs, strict=True):
        project = row["source"].split(",")[0]
        assert f"github.com/{project}" in ours["source"]


def test_what_the_names_stand_for_exists():
    """Each network and layer is in the catalogue, or is not a feature map there."""
    names = published_values._names()
    assert set(names["backbone", "", "VGG-16 ImageNet"]) == {"vgg16.features", "vgg16"}
    known = {
        model: {layer.name for layer in backbone(ours[0]).layers}
        for (kind, _, model), ours in names.items()
        if kind == "backbone"
    }
    assert set(known) == {row["model"] for row in rows() if row["layer"]}
    without = set()
    for row in rows():
        for layer in filter(None, row["layer"].split("+")):
            (ours,) = published_values._ours("layer", row["model"], layer)
            if ours not in known[row["model"]]:
                without.add(layer)
    assert without == {"input", "avgpool", "fc"}
    metrics = {row["model"] for row in rows() if not row["layer"]}
    assert len(metrics) == 17
    for metric in metrics:
        assert ("metric", "", metric.split()[1]) in names, metric
    catalogue = {name for one in all_metrics() for name in (one.name, *one.aliases)}
    there = {name for (kind, *_), ours in names.items() if kind == "metric" for name in ours}
    assert there & catalogue >= {"ssim", "ms_ssim", "lpips_vgg", "dists"}


def test_every_kind_of_value_is_put_beside_ours():
    assert beside(
        Row("tid2013", "vgg16", "relu3_1", "euclidean"),
        Row("kadid10k", "vgg16.features", "pool5", "euclidean"),
        Row("tid2013", "vgg16", "relu1_2+relu2_2", "euclidean:joint"),
        Row("kadid10k", "perceptnet", "pool1", "euclidean"),
        Row("tid2008", "resnet18", "layer4.1", "euclidean"),
        Row("tid2013", "resnet18", "layer1.1", "rmse"),
        Row("tid2008", "ssim"),
        Row("kadid10k", "lpips_vgg"),
        Row("tid2013", "mdsi"),
        # Not published, or not the same thing:
        Row("tid2008", "vgg16", "relu3_1", "euclidean"),
        Row("tid2013", "vgg16", "relu3_1", "cosine"),
        Row("tid2013", "vgg16", "relu1_2+relu2_1", "euclidean:joint"),
        Row("tid2013", "vgg19", "relu3_1", "euclidean"),
        Row("tid2013", "psnr"),
    ) == {
        ("tid2013", "vgg16:relu3_1:euclidean", 0.837),
        ("kadid10k", "vgg16.features:pool5:euclidean", 0.807),
        ("tid2013", "vgg16:relu1_2+relu2_2:euclidean:joint", 0.828),
        ("kadid10k", "perceptnet:pool1:euclidean", 0.679),
        ("tid2008", "resnet18:layer4.1:euclidean", 0.758429),
        ("tid2013", "resnet18:layer1.1:rmse", 0.731866),
        ("tid2008", "ssim", 0.677),
        ("kadid10k", "lpips_vgg", 0.7201),
        ("tid2013", "mdsi", 0.8684),
    }


def test_a_value_under_two_names_is_one_row():
    measured = Row("tid2013", "vgg16", "relu1_2", "euclidean")
    assert len(read_published(None, study(measured))) == 1


def test_a_table_of_ones_own_adds_and_replaces(tmp_path):
    path = tmp_path / "more.csv"
    path.write_text(
        "model,layer,readout,database,abs_plcc,abs_srocc,source\n"
        "piq SSIMLoss,,,TID 2013,0.7,0.111,somebody\n"
        "vgg19,relu3_1,cosine,TID2013,0.7,0.222,names of this package\n"
        "vsi,,,TID2013,0.7,0.333,another measurement\n"
    )
    measured = (
        Row("tid2013", "ssim"),
        Row("kadid10k", "ssim"),
        Row("tid2013", "vgg19", "relu3_1", "cosine"),
        Row("tid2013", "vsi"),
    )
    own = {
        ("tid2013", "ssim", 0.111),
        ("tid2013", "vgg19:relu3_1:cosine", 0.222),
        ("tid2013", "vsi", 0.333),
    }
    assert beside(*measured, path=path) == own | {
        ("kadid10k", "ssim", 0.7242),
        ("tid2013", "vsi", 0.8948),
    }
    assert beside(*measured, path=path, built_in=False) == own
    assert beside(*measured, built_in=False) == set()


def test_the_report_shows_them_unless_told_not_to(tmp_path):
    folder = write_study(tmp_path / "study", baselines=BASELINES)
    page = write_report(folder)
    text = page.read_text()
    assert "Comparison with published values" in text
    assert "github.com/Jorgvt/paramperceptnet" in text
    ours = next(
        row
        for row in read_study(folder).correlations
        if (row.database, row.backbone, row.distortion) == ("tid2013", "dists", "")
    )
    assert f"{abs(ours.srocc) - 0.8049:+.3f}".replace("-", "−") in text
    assert "Comparison with published" not in write_report(folder, known_values=False).read_text()
