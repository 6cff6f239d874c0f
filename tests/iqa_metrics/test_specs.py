"""Specs: parsing and printing round-trip; what is wrong is answered with near names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqa_metrics import (
    BACKBONES,
    METRICS,
    READOUTS,
    NamedSpec,
    UnknownNameError,
    create_metric,
    parse_spec,
)
from iqa_metrics.metrics import resolve


@st.composite
def deep_specs(draw):
    record = draw(st.sampled_from(BACKBONES))
    names = [layer.name for layer in record.layers]
    chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=4))
    layers = "+".join(name for name in names if name in chosen)
    return f"{record.name}:{layers}:{draw(st.sampled_from(READOUTS)).name}"


@given(deep_specs() | st.sampled_from([record.name for record in METRICS]))
def test_parsing_and_printing_round_trip(text):
    assert str(parse_spec(text)) == text
    assert parse_spec(str(parse_spec(text))) == parse_spec(text)
    assert str(parse_spec(f" {text}\n")) == text


def test_layers_are_put_in_the_networks_order():
    spec = parse_spec("efficientnet_lite0:head+stem+block10+block9:rmse")
    assert str(spec) == "efficientnet_lite0:stem+block9+block10+head:rmse"


def test_a_metric_is_named_by_its_spec():
    for spec in ("psnr", "ssim", "ssim_skimage", "efficientnet_lite0:stem+head:rmse"):
        assert create_metric(spec).name == spec
    assert create_metric("default").name == str(resolve("default"))


def test_a_spec_of_an_unknown_metric_is_answered_with_near_ones():
    for use in (create_metric, resolve):
        with pytest.raises(UnknownNameError, match="did you mean 'psnr'"):
            use(NamedSpec("psnrr"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "known names: default, psnr"),
        ("defualt", "did you mean 'default'"),
        ("SSIM", "BACKBONE:LAYER"),
        ("efficientnet_lite0", "BACKBONE:LAYER"),
        ("efficientnet_lite0:block12", "2 parts"),
        ("efficientnet_lite0:block12:euclidean:x", "4 parts"),
        ("efficientnet_lite0::euclidean", "empty"),
        (":::", "4 parts"),
        ("efficientnet_lite1:block12:euclidean", "did you mean 'efficientnet_lite0'"),
        ("efficientnet_lite0:block99:euclidean", "did you mean 'block9'"),
        ("efficientnet_lite0:block1+:euclidean", "unknown layer of efficientnet_lite0 ''"),
        ("efficientnet_lite0:block1+block1:euclidean", "twice"),
        ("efficientnet_lite0:block12:euclid", "did you mean 'euclidean'"),
        (None, "got NoneType"),
    ],
)
def test_what_is_wrong_is_said(text, words):
    with pytest.raises(UnknownNameError) as caught:
        parse_spec(text)
    assert words in str(caught.value)
    assert caught.value.code == "unknown_metric"
