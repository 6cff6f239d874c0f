"""Controlled comparisons, and finding backbones by their factors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqa_metrics import BACKBONES, UnknownNameError, comparisons, select
from iqa_metrics.backbones import FACTORS


def values(factor, **agreed):
    """Return the values of the one comparison whose other factors are these."""
    found = [c for c in comparisons(factor) if agreed.items() <= c.agreed.items()]
    assert len(found) == 1, found
    return {value: {record.name for record in records} for value, records in found[0].sets.items()}


def test_goals_of_one_network_on_one_data_set():
    sets = values("goal", architecture="ResNet-50", data="ImageNet-1k")
    assert set(sets) == {
        *("classification", "self-supervised: jigsaw", "self-supervised: rotation"),
        *("self-supervised: clustering", "self-supervised: instance discrimination"),
        *("self-supervised: contrastive", "self-supervised: redundancy reduction", "untrained"),
    }
    assert sets["self-supervised: rotation"] == {"resnet50.rotnet"}
    assert "resnet50.simclr_100ep" in sets["self-supervised: contrastive"]
    assert {"resnet50", "resnet50.v2", "resnet50.caffe2"} <= sets["classification"]
    assert sets["untrained"] == {"resnet50.untrained"}


def test_data_of_one_network_with_one_goal():
    sets = values("data", architecture="ResNet-50", goal="classification")
    assert set(sets) == {"ImageNet-1k", "Places205", "Places365"}
    sets = values("data", architecture="ResNet-50", goal="self-supervised: jigsaw")
    assert set(sets) == {"ImageNet-1k", "ImageNet-22k", "YFCC100M"}


def test_depths_of_one_family():
    assert list(values("depth", family="VGG", kind="", goal="classification")) == [
        *("11", "13", "16", "19"),
    ]
    assert list(values("depth", family="ResNet", data="ImageNet-1k", goal="classification")) == [
        *("18", "34", "50", "101", "152"),
    ]


def test_strict_comparisons_agree_in_training_too():
    strict = comparisons("data", strict=True)
    caffe2 = next(c for c in strict if c.agreed["environment"] == "Caffe2")
    assert set(caffe2.sets) == {"ImageNet-1k", "Places205"}
    goyal = [c for c in strict if c.agreed["recipe"] == "Goyal et al. 2019"]
    assert len(goyal) == 4
    assert all(set(c.sets) == {"ImageNet-1k", "ImageNet-22k", "YFCC100M"} for c in goyal)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("strict", [False, True])
def test_comparisons_agree_in_all_other_factors(factor, strict):
    for comparison in comparisons(factor, strict=strict):
        assert len(comparison.sets) > 1
        for value, records in comparison.sets.items():
            assert records
            for record in records:
                assert FACTORS[factor](record) == value
                if record.goal == "untrained" and factor == "goal":
                    assert record.architecture == comparison.agreed["architecture"]
                    continue
                for name, agreed in comparison.agreed.items():
                    found = FACTORS[name](record) if name in FACTORS else getattr(record, name)
                    assert found == agreed


@given(st.permutations(BACKBONES))
def test_comparisons_do_not_depend_on_the_order_of_records(shuffled):
    def as_sets(found):
        return {
            (frozenset(c.agreed.items()), frozenset((v, frozenset(r)) for v, r in c.sets.items()))
            for c in found
        }

    assert as_sets(comparisons("goal", among=shuffled)) == as_sets(comparisons("goal"))


def test_a_new_record_joins_automatically():
    from dataclasses import replace

    record = next(r for r in BACKBONES if r.name == "resnet50")
    new = replace(record, name="mine", goal="self-supervised", method="guessing")
    found = comparisons("goal", among=[*BACKBONES, new])
    sets = next(
        c.sets for c in found if c.agreed == {"architecture": "ResNet-50", "data": "ImageNet-1k"}
    )
    assert sets["self-supervised: guessing"] == (new,)


def test_factors_find_backbones():
    assert {r.name for r in select(goal="Jigsaw", family="AlexNet", data="yfcc100m")} == {
        "alexnet.jigsaw_yfcc100m_goyal19"
    }
    assert {r.goal for r in select(goal="segmentation")} == {"segmentation"}
    assert len(select(goal="self-supervised")) > len(select(goal="contrastive")) > 0
    assert select() == BACKBONES
    assert select(goal="rotation", data="COCO") == ()
    with pytest.raises(UnknownNameError, match="did you mean 'jigsaw'"):
        select(goal="jigsaws")
    with pytest.raises(UnknownNameError, match="factor 'gaol'; did you mean 'goal'"):
        select(gaol="jigsaw")
    with pytest.raises(UnknownNameError, match="unknown factor"):
        comparisons("colour")
