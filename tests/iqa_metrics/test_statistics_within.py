"""Agreement within references and kinds of distortion, compared with scipy and by hand."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iqa_metrics.statistics import (
    Resampling,
    srocc_within,
    within_bootstrap,
    within_references,
)


def ladder(series=3, references=6, kinds=("blur", "jpeg", "noise"), rungs=5, seed=0):
    """Distances, severities, references and kinds of a made-up ladder, in a shuffled order."""
    stream = np.random.default_rng(seed)
    rows = [(f"r{r}", k, s) for r in range(references) for k in kinds for s in range(rungs)]
    stream.shuffle(rows)
    names, of_kind, levels = zip(*rows, strict=True)
    severity = np.array(levels, dtype=np.float64)
    distances = severity + stream.normal(0, 2, (series, len(rows)))
    return np.round(distances), severity, names, of_kind


def plainly(x, y, references, kinds):
    """The value of each reference, pair by pair with scipy."""
    references, kinds = np.asarray(references), np.asarray(kinds)
    found = []
    for name in sorted(set(references)):
        here = references == name
        of_kinds = [
            scipy.stats.spearmanr(x[here & (kinds == kind)], y[here & (kinds == kind)])[0]
            for kind in sorted(set(kinds[here]))
        ]
        found.append(np.mean(of_kinds))
    return np.array(found)


def test_values_are_those_of_scipy_group_by_group():
    x, y, references, kinds = ladder()
    names, values = within_references(x, y, references, kinds)
    assert names == tuple(sorted(set(references)))
    for row, found in zip(x, values, strict=True):
        np.testing.assert_allclose(found, plainly(row, y, references, kinds), atol=1e-12)
    drawn = within_bootstrap(x, y, references, kinds, draws=50, seed=4)
    np.testing.assert_allclose(drawn.value, values.mean(-1), atol=1e-12)
    np.testing.assert_allclose(
        srocc_within(x, y, references),
        [plainly(row, y, references, [""] * len(y)).mean() for row in x],
        atol=1e-12,
    )


def test_a_replicate_is_the_mean_over_the_references_it_drew():
    x, y, references, kinds = ladder(series=1)
    drawn = within_bootstrap(x, y, references, kinds, draws=30, seed=7)
    names, values = within_references(x, y, references, kinds)
    counts = Resampling(references, 30, 7).counts()
    for draw, sample in enumerate(drawn.samples[:, 0]):
        times = [int(counts[draw, references.index(name)]) for name in names]
        assert sample == pytest.approx(np.repeat(values[0], times).mean(), abs=1e-12)


def test_scores_of_different_references_and_kinds_are_never_compared():
    x, y, references, kinds = ladder(series=1)
    scale = {name: 10.0**at for at, name in enumerate(sorted(set(references)))}
    shift = {name: 100.0 * at for at, name in enumerate(sorted(set(kinds)))}
    moved = x * [scale[one] for one in references] + [shift[one] for one in kinds]
    np.testing.assert_allclose(
        within_references(moved, y, references, kinds)[1],
        within_references(x, y, references, kinds)[1],
        atol=1e-12,
    )


def test_groups_that_say_nothing_are_left_out_and_flat_distances_count_as_none():
    references = ["a"] * 3 + ["b"] * 3 + ["c"] * 2 + ["d"] * 3
    opinion = np.array([1.0, 2, 3, 5, 5, 5, 1, 2, 1, 2, 3])
    rises = np.array([1.0, 2, 3, 1, 2, 3, 1, 2, 4, 5, 6])
    flat_in_d = np.where(np.asarray(references) == "d", 7.0, rises)
    names, values = within_references([rises, flat_in_d], opinion, references, [""] * 11)
    assert names == ("a", "d")
    np.testing.assert_allclose(values, [[1, 1], [1, 0]])
    np.testing.assert_allclose(srocc_within([rises, flat_in_d], opinion, references), [1, 0.5])
    missing = np.where(np.arange(11) == 9, np.nan, rises)
    names, values = within_references(missing, opinion, references, [""] * 11)
    assert names == ("a", "d")
    assert values[0] == 1
    assert np.isnan(values[1])
    nothing = srocc_within([rises, rises], np.ones(11), references)
    assert nothing.shape == (2,)
    assert np.isnan(nothing).all()


def test_what_does_not_fit_is_refused():
    x, y, references, kinds = ladder()
    with pytest.raises(ValueError, match="a reference and a kind"):
        within_references(x, y, references[1:], kinds)
    with pytest.raises(ValueError, match="opinion: expected"):
        within_references(x, np.stack([y] * 3), references, kinds)
    with pytest.raises(ValueError, match="at least 2 references, got 1"):
        within_bootstrap(x, y, ["one"] * len(y), kinds)


@given(
    hnp.arrays(np.float64, (2, 12), elements=st.integers(-3, 3).map(float)),
    st.integers(0, 2**32 - 1),
)
def test_the_order_of_pairs_does_not_matter(table, seed):
    x, y = table
    references, kinds = np.repeat(["a", "b"], 6), np.tile(["u", "u", "u", "v", "v", "v"], 2)
    order = np.random.default_rng(seed).permutation(12)
    names, values = within_references(x, y, references, kinds)
    again, moved = within_references(x[order], y[order], references[order], kinds[order])
    assert names == again
    np.testing.assert_allclose(values, moved, atol=1e-12)
