"""The code on the page about extending the package works as the page says."""

import re
from dataclasses import MISSING, fields

import pytest
import torch
from material import REPOSITORY, encoded
from registering import own_catalogues

from iqa_metrics import (
    METRICS,
    READOUTS,
    Metric,
    MetricRecord,
    Readout,
    all_backbones,
    all_databases,
    all_metrics,
    all_readouts,
    create_metric,
)
from iqa_metrics.plugins import provider_of

PAGE = (REPOSITORY / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def after(tmp_path, monkeypatch, photographs):
    """The names that the page's code defines, run from top to bottom."""
    images = tmp_path / "data" / "lab" / "images"
    images.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (images / name).write_bytes(encoded(photographs["cat"]))
    (images.parent / "ratings.txt").write_text("a.png b.png 4.5\n")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "the_page"}
    with own_catalogues():
        for number, block in enumerate(BLOCKS, start=1):
            code = compile(block, f"docs/extending.md, block {number}", "exec")
            exec(code, names)  # noqa: S102 - our own page
        yield names


def test_each_kind_is_registered(after, pair):
    assert [record.name for record in all_metrics()[len(METRICS) :]] == ["largest_error", "style"]
    assert [record.name for record in all_readouts()[len(READOUTS) :]] == ["log_difference"]
    assert all_backbones()[-1].name == "mine"
    assert all_databases()[-1].name == "lab"
    assert after["values"].shape == (4,)
    (pair_of_lab,) = after["read_database"]("lab", "data/lab").pairs
    assert (pair_of_lab.distorted.name, pair_of_lab.opinion) == ("b.png", 4.5)
    after["register"]()
    images = [image[..., :64, :64] for image in pair]
    assert float(create_metric("largest")(*images)) == float((images[0] - images[1]).abs().max())
    for spec in ("style", "efficientnet_lite0:stem+block3:log_difference", "mine:relu2:rmse"):
        metric = create_metric(spec)
        assert float(metric(images[0], images[0])) == 0
        assert float(metric(*images)) > 0
    assert provider_of("backbone", "mine").module == "the_page"


def test_the_facts_of_the_records_are_true(after):
    for record in all_metrics()[len(METRICS) :]:
        metric = create_metric(record.name)
        assert metric.smallest_input == record.smallest_input
        assert metric.has_map == record.has_map
        grey = torch.full((1, 3, 64, 64), 0.5)
        assert float(metric(grey, grey)) == record.identity


def test_the_tables_explain_every_fact():
    """Every attribute that the page explains exists, and every fact of a record is explained."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    of_class = {"higher_is_better", "range", "source", "differentiable"}
    of_class |= {"takes_mask", "any_channels", "elementwise"}
    assert all(hasattr(Metric, name) or name in Metric.__annotations__ for name in of_class)
    of_metrics = {field.name for field in fields(MetricRecord)}
    # Those without a default are in the example; a readout that is registered gives one value.
    of_readouts = {one.name for one in fields(Readout) if one.default is not MISSING}
    assert explained == of_class | of_metrics | of_readouts - {"per_channel", "weight_sets"}
