"""Tests of two metrics on the same pairs that take the pairs as independent.

The field reports them, so they stand beside the bootstrap over references. Pairs of a reference are
alike, which makes their p-values too small.

References
----------
X.-L. Meng, R. Rosenthal and D. B. Rubin, "Comparing correlated correlation coefficients",
Psychological Bulletin 111(1), 1992; ITU-T P.1401 (2020), section 7.6.
"""

import numpy as np
from numpy.typing import ArrayLike

from iqa_metrics.statistics.correlations import Floats


def meng_rosenthal_rubin(
    first: ArrayLike, second: ArrayLike, between: ArrayLike, n: int
) -> tuple[Floats, Floats]:
    """Test whether two metrics correlate equally well with the same opinions.

    Parameters
    ----------
    first, second
        The correlation of each metric with the opinions, ``[...]``, with signs chosen so that
        agreement is positive.
    between
        The correlation of the two metrics with each other, with the same signs, ``[...]``.
    n
        The number of pairs, at least 4.

    Returns
    -------
    tuple
        z, positive where the first correlates better, and the two-sided p-value, ``[...]`` each.
        NaN where a correlation is NaN or 1, or where the metrics are the same.

    Raises
    ------
    ValueError
        If there are fewer than 4 pairs.
    """
    from scipy.stats import norm

    if n < 4:
        raise ValueError(f"n: expected at least 4 pairs, got {n}")
    a, b, x = (np.asarray(r, dtype=np.float64) for r in (first, second, between))
    mean = (a * a + b * b) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        f = np.minimum(1.0, (1 - x) / (2 * (1 - mean)))
        h = (1 - f * mean) / (1 - mean)
        z = (np.arctanh(a) - np.arctanh(b)) * np.sqrt((n - 3) / (2 * (1 - x) * h))
    z = np.where(np.isfinite(z) & (x < 1), z, np.nan)
    return z, np.asarray(2 * norm.sf(np.abs(z)), dtype=np.float64)


def residual_variance_test(
    first: ArrayLike, second: ArrayLike, n: int, parameters: int = 4
) -> tuple[Floats, Floats]:
    """Test whether two metrics predict opinions with equally large errors (F-test of P.1401).

    Parameters
    ----------
    first, second
        The root mean squared error of each metric after its fitted curve, ``[...]``.
    n
        The number of pairs.
    parameters
        The number of parameters of the curve.

    Returns
    -------
    tuple
        F, the larger variance over the smaller, and the two-sided p-value, ``[...]`` each. NaN
        where an error is NaN, or both are 0.

    Raises
    ------
    ValueError
        If there are no more pairs than parameters.
    """
    from scipy.stats import f

    freedom = n - parameters
    if freedom < 1:
        raise ValueError(f"n: expected more than {parameters} pairs, got {n}")
    a, b = (np.square(np.asarray(error, dtype=np.float64)) for error in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.maximum(a, b) / np.minimum(a, b)
    p = np.minimum(1.0, 2 * f.sf(ratio, freedom, freedom))
    return ratio, np.where(np.isnan(ratio), np.nan, p)
