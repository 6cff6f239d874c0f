"""Specs: parsing and printing round-trip, and errors suggest near names."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from registering import own_catalogues

from iqa_metrics import (
    BACKBONES,
    CONCATENATIONS,
    METRICS,
    PSNR,
    READOUTS,
    DeepDistance,
    DeepSpec,
    MetricRecord,
    NamedSpec,
    PluginError,
    UnknownNameError,
    backbone,
    create_metric,
    metric_record,
    needs,
    parse_spec,
    register_metric,
)
from iqa_metrics.metrics import resolve
from iqa_metrics.names import spelt

# One of each source; layers of all are measured in tests of their own.
SOME = [
    backbone(name)
    for name in (
        *("efficientnet_lite0", "perceptnet", "vgg16", "resnet50.v2", "vit_b_32", "swin_t"),
        *("alexnet.jigsaw_in1k_goyal19", "fcn_resnet50", "squeezenet1_1.untrained"),
    )
]


@st.composite
def deep_specs(draw):
    record = draw(st.sampled_from(SOME))
    names = [layer.name for layer in record.layers]
    chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=4))
    chosen = [name for name in names if name in chosen]
    readout = draw(st.sampled_from(READOUTS))
    kinds = [kind for kind in CONCATENATIONS if kind != "joint" or readout.joint]
    kind = draw(st.sampled_from(kinds if len(chosen) > 1 else [None, "sum_per_element"]))
    weights = [1.0] * len(chosen)
    if kind not in (None, "joint"):
        weights = draw(st.lists(positive, min_size=len(chosen), max_size=len(chosen)))
    terms = [n if w == 1 else f"{number(w)}*{n}" for n, w in zip(chosen, weights, strict=True)]
    parts = [record.name, "+".join(terms), readout.name]
    return ":".join([*parts, kind] if kind else parts)


positive = st.just(1.0) | st.floats(1e-30, 1e30)


def number(weight):
    """As Python writes a number, but without a plus sign and a zero fraction."""
    return re.sub(r"\.0$", "", repr(weight).replace("+", ""))


@given(deep_specs() | st.sampled_from([record.name for record in METRICS]))
def test_parsing_and_printing_round_trip(text):
    assert str(parse_spec(text)) == text
    assert parse_spec(str(parse_spec(text))) == parse_spec(text)
    assert str(parse_spec(f" {text}\n")) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("head+stem+block10+block9:rmse", "stem+block9+block10+head:rmse:joint"),
        ("head+stem:rmse:joint", "stem+head:rmse:joint"),
        ("2.50*head+stem:cosine:sum", "stem+2.5*head:cosine:sum"),
        ("1*head+1.0*stem:gram:sum_per_element", "stem+head:gram:sum_per_element"),
        ("head:rmse:joint", "head:rmse"),
        ("head:rmse:sum", "head:rmse"),
        ("1*head:rmse", "head:rmse"),
        ("3*head:rmse:sum", "3*head:rmse:sum"),
        ("head:rmse:sum_per_element", "head:rmse:sum_per_element"),
        ("1e+20*head+stem:rmse:sum", None),
        ("1e20*head+stem:rmse:sum", "stem+1e20*head:rmse:sum"),
    ],
)
def test_a_spec_has_one_form(text, canonical):
    if canonical is None:  # a plus sign joins layers
        with pytest.raises(UnknownNameError):
            parse_spec(f"efficientnet_lite0:{text}")
    else:
        spec = parse_spec(f"efficientnet_lite0:{text}")
        assert str(spec) == f"efficientnet_lite0:{canonical}"


def test_a_metric_is_named_by_its_spec():
    for spec in (
        *("mse", "psnr", "ssim", "ssim_skimage", "ms_ssim"),
        "efficientnet_lite0:stem+head:rmse:joint",
        "efficientnet_lite0:0.5*stem+head:gram:sum_per_element",
    ):
        assert create_metric(spec).name == spec
    assert create_metric("default").name == str(resolve("default"))


def test_a_spec_of_an_unknown_metric_is_answered_with_near_ones():
    for use in (create_metric, resolve):
        with pytest.raises(UnknownNameError, match="did you mean 'psnr'"):
            use(NamedSpec("psnrr"))


def test_specs_made_by_hand_are_checked_as_well():
    spec = DeepSpec("efficientnet_lite0", ("block3", "stem"), "euclidean")
    assert str(resolve(spec)) == "efficientnet_lite0:stem+block3:euclidean:joint"
    assert create_metric(spec).name == str(resolve(spec))
    weighted = DeepSpec("efficientnet_lite0", ("stem",), "rmse", "sum", (np.float64(0.5),))
    assert str(weighted) == "efficientnet_lite0:0.5*stem:rmse:sum"
    assert str(resolve(DeepSpec("efficientnet_lite0", "stem", "rmse"))).split(":")[1] == "stem"
    for wrong in (None, 3):
        for use in (resolve, needs, create_metric):
            with pytest.raises(UnknownNameError, match="as text"):
                use(wrong)


@pytest.mark.parametrize("weights", [[], [1], [1, 1, 1]])
def test_there_must_be_as_many_weights_as_layers(weights):
    with pytest.raises(ValueError, match="for 2 layers"):
        DeepDistance(
            "efficientnet_lite0", ["stem", "head"], concatenation="sum", layer_weights=weights
        )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "known names: default, mse, psnr"),
        ("defualt", "did you mean 'default'"),
        ("SSIM", "did you mean 'ssim'"),
        ("LPIPS", "did you mean 'lpips'"),
        ("resnet5", "did you mean 'resnet50'"),
        ("VGG16", "'VGG16' is a backbone, not a metric (spelt 'vgg16')"),
        ("block14", "'block14' is a layer of efficientnet_lite0, not a metric; expected"),
        ("Block_14", "such as efficientnet_lite0:block14:rmse"),
        ("relu1_2", "such as vgg16:relu1_2:rmse"),
        ("RMSE", "is a readout, not a metric (spelt 'rmse')"),
        ("efficientnet_lite0:Block14:rmse", "spec would be 'efficientnet_lite0:block14:rmse'"),
        ("efficientnet_lite0:block_14:rmse", "spec would be 'efficientnet_lite0:block14:rmse'"),
        (
            "EfficientNet-Lite0:Stem+0.5*HEAD:Cosine:SUM",
            "spec would be 'efficientnet_lite0:stem+0.5*head:cosine:sum'",
        ),
        ("psnrr", "BACKBONE:LAYER"),
        ("efficientnet_lite0", "is a backbone, not a metric; expected BACKBONE:LAYER"),
        ("efficientnet_lite0:block12", "2 parts"),
        ("efficientnet_lite0:block12:euclidean:x", "unknown concatenation 'x'"),
        ("efficientnet_lite0:block12:euclidean:sum:x", "5 parts"),
        ("efficientnet_lite0:block12:euclidean:", "an empty part"),
        ("efficientnet_lite0:stem+head:euclidean:sun", "did you mean 'sum'"),
        (
            "efficientnet_lite0:stem+head:cosine",
            "'cosine' has no 'joint' form; expected the concatenation 'sum'",
        ),
        ("efficientnet_lite0:head:cosine:joint", "'cosine' has no 'joint' form"),
        (
            "efficientnet_lite0:stem+2*head:rmse",
            "layer weights need a concatenation: expected 'sum'",
        ),
        (
            "efficientnet_lite0:stem+2*head:rmse:joint",
            "layer weights need a concatenation: expected 'sum'",
        ),
        ("efficientnet_lite0:stem+-2*head:rmse:sum", "expected positive numbers"),
        ("efficientnet_lite0:stem+nan*head:rmse:sum", "expected positive numbers"),
        ("efficientnet_lite0:stem+two*head:rmse:sum", "a number before '*', got 'two'"),
        ("efficientnet_lite0:1_0*stem+head:rmse:sum", "a number before '*', got '1_0'"),
        ("efficientnet_lite0:stem+*head:rmse:sum", "a number before '*', got ''"),
        ("efficientnet_lite0::euclidean", "empty"),
        (":::", "4 parts or an empty part"),
        ("efficientnet_lite9:block12:euclidean", "did you mean 'efficientnet_lite"),
        ("efficientnet_lite0:block99:euclidean", "did you mean 'block9'"),
        ("efficientnet_lite0:block1+:euclidean", "unknown layer of efficientnet_lite0 ''"),
        ("efficientnet_lite0:block1+block1:euclidean", "expected each layer once"),
        ("efficientnet_lite0:block12:euclid", "did you mean 'euclidean'"),
        (None, "got NoneType"),
    ],
)
def test_what_is_wrong_is_said(text, words):
    with pytest.raises(UnknownNameError) as caught:
        parse_spec(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ssmi", "unknown_metric"),
        ("efficientnet_lite0", "unknown_metric"),
        ("efficientnet_lite9:block12:euclidean", "unknown_backbone"),
        ("efficientnet_lite0:block99:euclidean", "unknown_layer"),
        ("efficientnet_lite0:block12:euclid", "unknown_readout"),
        ("efficientnet_lite0:stem+head:euclidean:sun", "unknown_concatenation"),
        ("efficientnet_lite0:block12", "bad_spec"),
        ("efficientnet_lite0:two*stem:rmse:sum", "bad_spec"),
        ("efficientnet_lite0:head:cosine:joint", "bad_spec"),
        (None, "bad_spec"),
    ],
)
def test_the_code_says_which_kind_of_name_is_unknown(text, code):
    with pytest.raises(UnknownNameError) as caught:
        parse_spec(text)
    assert caught.value.code == code
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - what was pickled here
    assert (again.code, str(again)) == (code, str(caught.value))


def test_an_alias_is_the_name_of_its_metric():
    assert str(parse_spec("lpips")) == str(parse_spec(" lpips\n")) == "lpips_alex"
    assert str(resolve("lpips")) == str(resolve(NamedSpec("lpips"))) == "lpips_alex"
    assert needs("lpips") == needs("lpips_alex")
    assert metric_record("lpips").name == "lpips_alex"
    aliases = [alias for record in METRICS for alias in record.aliases]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & {record.name for record in METRICS}


def test_no_plugin_can_take_an_alias_nor_an_alias_a_name():
    for record in (
        MetricRecord(name="lpips", metric=PSNR, summary="other"),
        MetricRecord(name="mine", metric=PSNR, summary="other", aliases=("lpips",)),
        MetricRecord(name="mine", metric=PSNR, summary="other", aliases=("psnr",)),
    ):
        with pytest.raises(PluginError, match="is taken"):
            register_metric(record)
    for aliases in (("a:b",), "mine", (1,)):
        with pytest.raises(PluginError):
            register_metric(MetricRecord(name="mine", metric=PSNR, summary="x", aliases=aliases))


@own_catalogues()
def test_the_aliases_of_a_registered_metric():
    record = MetricRecord(name="mine", metric=PSNR, summary="mine", aliases=("ours",))
    register_metric(record)
    assert str(parse_spec("ours")) == "mine"
    with pytest.raises(PluginError, match="'ours' is taken: it is an alias of 'mine'"):
        register_metric(MetricRecord(name="ours", metric=PSNR, summary="other"))
    assert register_metric(record) is record
    again = MetricRecord(name="mine", metric=PSNR, summary="other", aliases=("ours",))
    assert register_metric(again, replace=True) is again
    with pytest.raises(UnknownNameError, match="did you mean 'ours'"):
        parse_spec("OURS")


def test_a_name_in_capitals_suggests_itself_first():
    networks = [record.name for record in BACKBONES]
    for name in networks:
        assert spelt(name.upper(), networks) == name
    for name in [record.name for record in (*METRICS, *SOME)]:
        with pytest.raises(UnknownNameError) as caught:
            parse_spec(name.upper())
        assert caught.value.suggestions[0] == name
    for one in READOUTS:
        with pytest.raises(UnknownNameError) as caught:
            parse_spec(f"efficientnet_lite0:stem:{one.name.upper()}")
        assert caught.value.suggestions[0] == one.name
    for record in SOME:
        for layer in record.layers:
            if layer.name.upper() != layer.name:
                with pytest.raises(UnknownNameError) as caught:
                    record.layer(layer.name.upper())
                assert caught.value.suggestions[0] == layer.name
