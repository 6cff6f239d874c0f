"""The weighted Euclidean distance in a study: weights learned from the study's own opinions.

Each pair is measured by weights that were learned without its reference image, so that what is
reported is what the weights are worth on images they have not seen.
"""

from collections.abc import Callable, Sequence

import numpy as np

from iqa_metrics.channel_weights.fitting import calibrate
from iqa_metrics.datasets.opinions import HigherIs
from iqa_metrics.study.content import code_digest
from iqa_metrics.study.distances import Pairs
from iqa_metrics.study.measuring import Keys
from iqa_metrics.study.plan import RELEVANCE
from iqa_metrics.study.readings import squares_of
from iqa_metrics.study.store import Block, Store, key_of

FOLDS = 5
_FEWEST = 3


def held_out(
    store: Store,
    keys: Keys,
    pairs: Pairs,
    higher_is: HigherIs,
    layers: Sequence[str],
    seed: int,
    learning: Callable[[int], None] | None = None,
) -> Block:
    """Return held-out weighted distances of each layer, ``[pairs, layers]``.

    They are kept like what is measured: learned anew only if squares or opinions are others.

    Parameters
    ----------
    store, keys
        Where the channels' squares are.
    pairs, higher_is
        The opinions, and their direction.
    layers
        Names of the layers.
    seed
        Of the folds.
    learning
        Is told which layer comes next.
    """
    key = key_of(
        {
            "reading": RELEVANCE,
            "code": code_digest("channel_weights/", "statistics/"),
            "squares": [list(keys.of[squares_of(layer)]) for layer in layers],
            "opinion": [repr(value) for value in pairs.opinion.tolist()],
            "references": list(pairs.references),
            "higher_is": higher_is,
            "folds": FOLDS,
            "seed": seed,
        }
    )
    if store.has(key):
        return store.read(key)
    sign = 1.0 if higher_is == "worse" else -1.0
    columns, errors = [], [""] * len(pairs)
    for number, layer in enumerate(layers):
        if learning is not None:
            learning(number)
        block = keys.block(store, squares_of(layer))
        squares, failed = block.values, block.errors
        fine = np.isfinite(squares).all(axis=1)
        good = np.array([not error for error in failed]) & fine
        values = np.full(len(pairs), np.nan)
        references = [r for r, there in zip(pairs.references, good, strict=True) if there]
        reason = ""
        if len(set(references)) < _FEWEST:
            reason = (
                f"too_few_references: weights are learned on some, chosen on others and judged on "
                f"others again; expected at least {_FEWEST}, got {len(set(references))}"
            )
        else:
            found = calibrate(
                squares[good],
                sign * pairs.opinion[good],
                references,
                folds=FOLDS,
                draws=1,
                seed=seed,
            )
            values[good] = found.held_out
        errors = [error or reason for error in failed]
        columns.append(values)
    block = Block(np.stack(columns, axis=1), tuple(errors))
    store.write(key, block)
    return block
