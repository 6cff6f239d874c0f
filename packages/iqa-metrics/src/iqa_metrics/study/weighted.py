"""The weighted Euclidean distance in a study: channel weights learned from its opinion scores.

Each pair is measured with weights that were learned without its reference image, so the results
show how good the weights are on unseen images.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from iqa_metrics.channel_weights.held_out import learn_weights
from iqa_metrics.datasets.opinions import HigherIs
from iqa_metrics.study.content import code_digest
from iqa_metrics.study.distances import Pairs
from iqa_metrics.study.measuring import Keys, squares_of
from iqa_metrics.study.plan import WEIGHTED
from iqa_metrics.study.store import Block, Store, key_of, pair_of

FOLDS = 5
_FEWEST = 3
_NOT_FINITE = "not_finite: a channel's squared difference is not a finite number for this image"


def weighted_distances(
    store: Store,
    keys: Keys,
    pairs: Pairs,
    higher_is: HigherIs,
    layers: Sequence[str],
    seed: int,
    learning: Callable[[int], None] | None = None,
) -> Block:
    """Return the held-out weighted distances of each layer, ``[pairs, layers]``.

    They are stored like measurements: weights are only learned again if the channel squares, the
    opinion scores or the code have changed.

    Parameters
    ----------
    store, keys
        The stored channel squares.
    pairs, higher_is
        The pairs with their opinion scores, and what a higher score means.
    layers
        Names of the layers.
    seed
        The seed that splits the folds.
    learning
        Called with the index of each layer before its weights are learned.
    """
    key = key_of(
        {
            "reading": WEIGHTED,
            "code": code_digest("channel_weights/", "statistics/"),
            "squares": [keys.of[squares_of(layer)] for layer in layers],
            "pairs": [pair.hex() for pair in keys.pairs],
            "opinion": [repr(value) for value in pairs.opinion.tolist()],
            "references": list(pairs.references),
            "higher_is": higher_is,
            "folds": FOLDS,
            "seed": seed,
        }
    )
    # Every pair's value depends on all pairs, and two equal pairs may have different scores.
    places = [pair_of(str(at)) for at in range(len(pairs))]
    if store.known(key).issuperset(places):
        return store.read(key, places)
    sign = 1.0 if higher_is == "worse" else -1.0
    columns: list[NDArray[np.float64]] = []
    errors: list[NDArray[np.object_]] = []
    for number, layer in enumerate(layers):
        if learning is not None:
            learning(number)
        block = keys.block(store, squares_of(layer))
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(block.values).all(axis=1))
        good: NDArray[np.bool_] = np.asarray(finite & ~block.failed().any(axis=1))
        values = np.full(len(pairs), np.nan)
        reasons = np.where(finite | (block.errors[:, 0] != ""), block.errors[:, 0], _NOT_FINITE)
        references = [r for r, there in zip(pairs.references, good, strict=True) if there]
        if len(set(references)) < _FEWEST:
            too_few = (
                "too_few_references: learning, selecting and testing channel weights takes "
                f"different references; expected at least {_FEWEST}, got {len(set(references))}"
            )
            reasons = np.where(reasons == "", too_few, reasons)
        else:
            found = learn_weights(
                block.values[good],
                sign * pairs.opinion[good],
                references,
                folds=FOLDS,
                draws=1,
                seed=seed,
            )
            values[good] = found.held_out
        columns.append(values)
        errors.append(reasons)
    block = Block(np.stack(columns, axis=1), np.stack(errors, axis=1))
    store.write(key, places, block)
    return block
