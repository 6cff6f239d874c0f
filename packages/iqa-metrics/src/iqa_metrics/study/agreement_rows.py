"""The rows of the tables about how certain opinions and differences in agreement are."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ceiling:
    """A row of ``ceilings.csv``: how well people agree with the mean opinion.

    Attributes
    ----------
    database
        The database.
    measure
        ``plcc`` or ``srocc``.
    what
        Whose agreement it is: ``one observer``, or ``mean of N observers``, as many as rated the
        database.
    value, low, high
        The correlation and its interval over references and noise; NaN if it is unknown. With too
        few references there is a value, but no interval.
    why
        Why it is unknown; else empty.
    """

    database: str
    measure: str
    what: str
    value: float
    low: float
    high: float
    why: str = ""


@dataclass(frozen=True)
class ByDistortion:
    """A row of ``by_distortion.csv``: a backbone and the best baseline on a kind of distortion.

    Attributes
    ----------
    database, distortion
        The pairs that they are compared on.
    backbone, layer, readout
        The backbone at the layer that agrees best on all of the database, with the plain readout.
    baseline
        The baseline metric that agrees best on all of the database.
    n, references
        The numbers of pairs and of references.
    difference, low, high
        The backbone's agreement less the baseline's, and its interval over references.
    p, p_corrected
        The p-value of no difference, and the same corrected by Holm's method for all rows of the
        database.
    verdict
        As in :class:`iqa_metrics.study.rows.Compared`; the first is the backbone.
    """

    database: str
    distortion: str
    backbone: str
    layer: str
    readout: str
    baseline: str
    n: int
    references: int
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    verdict: str


@dataclass(frozen=True)
class Significance:
    """A row of ``significance.csv``: two of all backbones and baselines.

    Attributes
    ----------
    database
        The database, or ``pooled``.
    first, second
        A backbone at its best layer with the plain readout, or a baseline metric.
    difference, low, high
        The first's agreement less the second's, held out where layers were selected, and its
        interval over references.
    p, p_corrected
        The p-value of no difference from the bootstrap over references, and the same corrected by
        Holm's method for all rows of the database.
    p_mrr
        The p-value of Meng, Rosenthal and Rubin's test of the two rank correlations.
    p_f
        The p-value of the F-test of the residuals' variances after the logistic (ITU-T P.1401).
        Both take pairs as independent and layers as given, and so are too small; they are NaN for
        several databases together.
    verdict
        As in :class:`iqa_metrics.study.rows.Compared`, by the corrected p-value.
    """

    database: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    p_mrr: float
    p_f: float
    verdict: str


@dataclass(frozen=True)
class Krasula:
    """A row of ``krasula.csv``: how well one metric, or the first of two, tells stimuli apart.

    Attributes
    ----------
    database
        The database.
    analysis
        ``different_similar``: does a large difference of the metric tell couples of stimuli that
        people see as significantly different from others? ``better_worse``: does its sign tell
        which of two significantly different stimuli people prefer?
    first, second
        A backbone at its best layer with the plain readout, or a baseline metric. The second is
        empty where the row is about the first alone; else the row has the first's value less the
        second's.
    couples, positives
        The numbers of couples of stimuli, and of those that are different, or whose first stimulus
        is better.
    auc, auc_low, auc_high
        The area under the ROC curve, and its interval (DeLong).
    c0
        The share of couples in which the sign of the metric's difference is right; NaN for
        ``different_similar``.
    threshold
        The difference of the metric that 95 % of the similar couples do not exceed; NaN for
        ``better_worse`` and for two metrics.
    auc_p, auc_p_corrected, c0_p, c0_p_corrected
        For two metrics, the p-values of equal areas (DeLong) and equal shares (the exact binomial
        test of the couples that only one gets right), and the same corrected by Holm's method for
        all rows of the analysis.
    why
        Why nothing could be computed; else empty.
    """

    database: str
    analysis: str
    first: str
    second: str
    couples: int
    positives: int
    auc: float = math.nan
    auc_low: float = math.nan
    auc_high: float = math.nan
    c0: float = math.nan
    threshold: float = math.nan
    auc_p: float = math.nan
    auc_p_corrected: float = math.nan
    c0_p: float = math.nan
    c0_p_corrected: float = math.nan
    why: str = ""
