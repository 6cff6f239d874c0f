"""The table of layers: columns of layers and readouts from one pass."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from iqa_metrics import (
    Backbone,
    Column,
    DeepDistance,
    FeatureReadouts,
    ImageError,
    LayerTable,
    Readout,
    UnknownNameError,
)
from iqa_metrics.readouts import CHANNEL_SQUARES, ELEMENTS


def largest(reference, distorted):
    """A readout of one's own: the largest absolute difference, [N]."""
    return (reference - distorted).abs().flatten(1).amax(dim=1)


LARGEST = Readout(
    name="largest", function=largest, summary="largest difference", source="these tests"
)


@pytest.fixture(scope="module")
def table():
    return LayerTable(
        "efficientnet_lite0",
        [
            Column("block9", "cosine"),
            Column("stem", CHANNEL_SQUARES),
            Column("stem", LARGEST),
            Column("block3", "weighted_euclidean", torch.linspace(0, 1, 40)),
            Column("block3", "weighted_euclidean", torch.ones(40)),
            Column("block3", ELEMENTS),
        ],
    )


def test_one_pass_gives_the_columns_in_the_given_order(table, pair):
    passes = []
    stem = table.extractor.network.get_submodule("stem")
    handle = stem.register_forward_hook(lambda _, x, __: x[0].is_meta or passes.append(len(x[0])))
    values = table(*pair)
    handle.remove()
    assert passes == [2]
    assert table.layers == ("stem", "block3", "block9")
    assert table.spans == ((0, 1), (1, 33), (33, 34), (34, 35), (35, 36), (36, 37))
    assert values.shape == (1, 37)
    assert values.dtype == torch.float64  # one column is, and the others lose nothing
    x, y = (table.extractor.responses(image, table.layers) for image in pair)
    stem_difference = (x["stem"] - y["stem"]).double()
    block3 = (x["block3"] - y["block3"]).double().square().sum(dim=(0, 2, 3))
    expected = [
        DeepDistance("efficientnet_lite0", "block9", "cosine")(*pair).item(),
        *stem_difference.square().sum(dim=(0, 2, 3)).tolist(),
        stem_difference.abs().max().item(),
        (block3 * torch.linspace(0, 1, 40)).sum().sqrt().item(),
        block3.sum().sqrt().item(),
        x["block3"].numel(),
    ]
    assert values[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_batches_and_shared_references_give_what_single_pairs_give(table, pair):
    reference, distorted = pair
    batch = torch.cat([distorted, reference, 0.5 * distorted])
    together = table(reference.expand(3, -1, -1, -1), batch)
    single = torch.cat([table(reference, image[None]) for image in batch])
    assert torch.allclose(together, single, rtol=1e-5, atol=1e-9)
    assert not together[1, :-1].any()  # identical images
    with table.reference(reference) as shared:
        assert torch.allclose(shared.score(batch), together, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match="has no map"), table.reference(reference) as shared:
        shared.score(batch, map=True)


def test_half_precision_leaves_channel_weights_exact(pair):
    weights = torch.linspace(0, 1, 40)
    half = LayerTable("efficientnet_lite0", [Column("block3", "weighted_euclidean", weights)])
    half.configure(precision="bfloat16")
    assert torch.equal(half.channel_weights(0), weights)
    exact = DeepDistance(
        "efficientnet_lite0", "block3", "weighted_euclidean", channel_weights={"block3": weights}
    )
    assert half(*pair)[0].item() == pytest.approx(exact(*pair).item(), rel=3e-2)


def test_the_union_of_tables_is_their_columns_side_by_side(pair):
    first = LayerTable("efficientnet_lite0", [Column("block3", "rmse"), Column("stem", "gram")])
    apart = LayerTable("efficientnet_lite0", [Column("block9", "rmse")])
    with pytest.raises(ValueError, match="not the same object"):
        LayerTable.union([first, apart])
    whole = LayerTable(
        "efficientnet_lite0", [Column("stem", "rmse"), Column("block9", "rmse")]
    ).extractor
    tables = [
        LayerTable("efficientnet_lite0", columns, extractor=whole)
        for columns in (
            [Column("block9", "rmse")],
            [Column("stem", "weighted_euclidean", torch.ones(32)), Column("stem", "rmse")],
        )
    ]
    union = LayerTable.union(tables)
    assert union.layers == ("stem", "block9")
    assert torch.equal(union(*pair), torch.cat([table(*pair) for table in tables], dim=1))
    assert union.constants[1] is tables[1].constants[0]
    with pytest.raises(ValueError, match="at least one, got none"):
        LayerTable.union([])


class Deep(nn.Module):
    """Its second layer needs 16 pixels."""

    def __init__(self):
        super().__init__()
        self.near = nn.Conv2d(3, 4, 3, padding=1)
        self.far = nn.Conv2d(4, 5, 16)

    def forward(self, x):
        return self.far(self.near(x))


def test_small_images_are_refused_or_have_no_value_in_the_layers_that_they_do_not_reach():
    torch.manual_seed(0)
    mine = Backbone.from_module(Deep(), {"near": "near", "far": "far"})
    columns = [Column("far", "rmse"), Column("near", "rmse"), Column("far", CHANNEL_SQUARES)]
    small, large = (torch.rand(2, 3, side, side) for side in (12, 20))
    strict = LayerTable(mine, columns)
    with pytest.raises(ImageError, match="too small for mine; expected at least 16"):
        strict(small, small.flip(0))
    lenient = LayerTable(mine, columns, unreached="nan")
    assert torch.equal(lenient(large, large.flip(0)), strict(large, large.flip(0)))
    values = lenient(small, small.flip(0))
    assert values.shape == (2, 7)
    assert values.isnan().tolist() == [[True, False, *[True] * 5]] * 2
    near = LayerTable(mine, [Column("near", "rmse")])
    assert torch.equal(values[:, 1:2], near(small, small.flip(0)).to(values.dtype))
    with lenient.reference(small[:1]) as shared:
        assert torch.equal(shared.score(small).isnan(), values.isnan())
    with pytest.raises(ValueError, match="unreached: expected 'error' or 'nan', got 'zero'"):
        LayerTable(mine, columns, unreached="zero")


class TestWhatIsRefused:
    cases: ClassVar = [
        ([], ValueError, "columns: expected at least one"),
        ([Column("block99", "rmse")], UnknownNameError, "unknown layer .*'block99'"),
        ([Column("stem", "rmsd")], UnknownNameError, "unknown readout 'rmsd'; did you mean 'rmse'"),
        ([Column("stem", "weighted_lpips")], ValueError, r"weighs channels; .*'stem': \[32\]"),
        ([Column("stem", "rmse", [1.0] * 32)], ValueError, "readout 'rmse' takes none"),
        ([Column("stem", "weighted_lpips", [1.0])], ValueError, r"expected \[32\], got \[1\]"),
        ([Column("stem", "weighted_lpips", 1.0)], ValueError, r"expected \[32\], got \[\]"),
        ([Column("stem", "weighted_lpips", torch.ones(1, 32))], ValueError, r"got \[1, 32\]"),
        ([Column("stem", "weighted_lpips", [-1.0] * 32)], ValueError, "at least 0"),
    ]

    @pytest.mark.parametrize(("columns", "kind", "words"), cases)
    def test_the_error_says_what_was_expected(self, columns, kind, words):
        with pytest.raises(kind, match=words):
            LayerTable("efficientnet_lite0", columns)


def test_readouts_that_do_not_keep_their_shape_are_refused(pair):
    with pytest.raises(ValueError, match="gives a value per channel; use a LayerTable"):
        DeepDistance("efficientnet_lite0", "stem", CHANNEL_SQUARES)
    wide = Readout(name="wide", function=lambda x, y: (x - y).mean((2, 3)), summary="-", source="-")
    table = LayerTable("efficientnet_lite0", [Column("stem", wide)])
    with pytest.raises(ValueError, match=r"readout 'wide': expected one value per pair, \[N\]"):
        table(*pair)


def test_a_small_first_image_does_not_spoil_the_estimate_of_memory():
    mine = Backbone.from_module(Deep(), {"near": "near", "far": "far"})
    columns = [Column("near", "rmse"), Column("far", "rmse")]
    fresh, used = (LayerTable(mine, columns, unreached="nan") for _ in range(2))
    used(torch.rand(2, 3, 12, 12), torch.rand(2, 3, 12, 12))
    assert used.pair_bytes(64, 64) == fresh.pair_bytes(64, 64) > 64 * 64 * 24


def test_a_readout_may_not_pass_for_another_one():
    rmse = Readout(name="rmse", function=largest, summary="-", source="these tests")
    with pytest.raises(ValueError, match="the catalogue has another readout of that name"):
        DeepDistance("efficientnet_lite0", "stem", rmse)
    with pytest.raises(ValueError, match="stem has two readouts of the name 'rmse'"):
        FeatureReadouts("efficientnet_lite0", {"stem": ["rmse", rmse]})
    values = FeatureReadouts("efficientnet_lite0", {"stem": [CHANNEL_SQUARES, "rmse"]})
    found = values(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64))["stem"]
    assert (found["channel_squares"].shape, found["rmse"].shape) == ((2, 32), (2,))


def test_what_would_have_no_effect_is_refused():
    metric = DeepDistance("efficientnet_lite0", "stem")
    other = DeepDistance("efficientnet_lite0", "block3")
    with pytest.raises(AttributeError, match="belongs to the table"):
        metric.extractor = other.extractor
    columns = [Column("stem", "rmse")]
    with pytest.raises(ValueError, match="leave out weights, trunk and network"):
        LayerTable("efficientnet_lite0", columns, extractor=metric.extractor, trunk=nn.ReLU())
    with pytest.raises(ValueError, match="made without the layers stem"):
        LayerTable("efficientnet_lite0", columns, extractor=other.extractor)
    tables = [
        LayerTable("efficientnet_lite0", columns, extractor=metric.extractor, unreached=unreached)
        for unreached in ("error", "nan")
    ]
    with pytest.raises(ValueError, match="the same unreached"):
        LayerTable.union(tables)


def test_gradients_float64_copies_and_small_budgets(pair):
    import copy

    columns = [Column("stem", "rmse"), Column("block3", "cosine")]
    table = LayerTable("efficientnet_lite0", columns)
    reference, distorted = (image[..., :64, :64] for image in pair)
    batch = torch.cat([distorted, 0.9 * distorted, 0.8 * distorted])
    expected = table(reference, batch)
    tight = copy.deepcopy(table).configure(memory=1)
    assert torch.allclose(tight(reference, batch), expected, rtol=1e-5)
    double = copy.deepcopy(table).double()(reference.double(), batch.double())
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), expected, rtol=1e-4)
    y = distorted.clone().requires_grad_()
    table(reference, y).sum().backward()
    assert bool(y.grad.isfinite().all())
    assert float(y.grad.abs().max()) > 0


def test_readouts_of_ones_own_work_wherever_layers_are_read(pair):
    metric = DeepDistance("efficientnet_lite0", "block3", LARGEST)
    x, y = (metric.extractor.responses(image, ["block3"])["block3"] for image in pair)
    expected = float((x - y).abs().max())
    assert metric(*pair).item() == pytest.approx(expected, rel=1e-6)
    assert metric.name == "efficientnet_lite0:block3:largest"
    assert not metric.has_map
    named = FeatureReadouts("efficientnet_lite0", {"block3": [LARGEST, "rmse"]})
    values = named(*pair)
    assert list(values["block3"]) == ["largest", "rmse"]
    assert values["block3"]["largest"].item() == pytest.approx(expected, rel=1e-6)


def test_named_columns_of_a_shared_reference(pair):
    reference, distorted = pair
    named = FeatureReadouts("efficientnet_lite0", {"block9": ["cosine"], "stem": ["rmse", "gram"]})
    batch = torch.cat([distorted, reference])
    with named.reference(reference) as shared:
        found = shared.score(batch)
    expected = named(reference, batch)
    names = {layer: list(of_layer) for layer, of_layer in found.items()}
    assert names == {"stem": ["rmse", "gram"], "block9": ["cosine"]}
    for layer, of_layer in expected.items():
        for name, values in of_layer.items():
            assert torch.allclose(found[layer][name], values, rtol=1e-6, atol=1e-9)
