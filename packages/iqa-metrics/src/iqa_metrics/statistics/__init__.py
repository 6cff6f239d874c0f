"""How well distances agree with opinions, and how certain that agreement is.

Correlations take whole tables: distances ``[..., n]`` and opinions ``[n]`` give ``[...]``, so a
study's thousand readouts take one call. Signs are kept: a good distance correlates negatively with
MOS and positively with DMOS. Ties get mean ranks, and constant input gives NaN, as in scipy. NaN in
the data gives NaN.

Intervals come from a bootstrap that resamples **reference images**, each with all of its pairs.
Pairs that share a reference are alike, so resampling pairs would make intervals far too narrow. A
bootstrap replicate is a count per reference: no pair is copied, and all replicates share one sort.

References
----------
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", 1993; M. G. Kendall, "Rank
Correlation Methods", 1948; ITU-T P.1401 (2020); VQEG, "Final Report on the Validation of Objective
Models of Video Quality Assessment", 2000; S. Holm, Scandinavian Journal of Statistics 6, 1979.
"""

from iqa_metrics.statistics.ceiling import noise_ceiling as noise_ceiling
from iqa_metrics.statistics.correlations import agreed_with as agreed_with
from iqa_metrics.statistics.correlations import krocc as krocc
from iqa_metrics.statistics.correlations import plcc as plcc
from iqa_metrics.statistics.correlations import ranks as ranks
from iqa_metrics.statistics.correlations import rmse as rmse
from iqa_metrics.statistics.correlations import same_precision as same_precision
from iqa_metrics.statistics.correlations import srocc as srocc
from iqa_metrics.statistics.correlations import two_afc as two_afc
from iqa_metrics.statistics.couples import COUPLES as COUPLES
from iqa_metrics.statistics.couples import BetterWorse as BetterWorse
from iqa_metrics.statistics.couples import Couples as Couples
from iqa_metrics.statistics.couples import DifferentSimilar as DifferentSimilar
from iqa_metrics.statistics.couples import better_worse as better_worse
from iqa_metrics.statistics.couples import couples_of as couples_of
from iqa_metrics.statistics.couples import different_similar as different_similar
from iqa_metrics.statistics.couples import shares_differ as shares_differ
from iqa_metrics.statistics.dependent import meng_rosenthal_rubin as meng_rosenthal_rubin
from iqa_metrics.statistics.dependent import residual_variance_test as residual_variance_test
from iqa_metrics.statistics.families import holm as holm
from iqa_metrics.statistics.families import pooled as pooled
from iqa_metrics.statistics.intervals import FEWEST_REFERENCES as FEWEST_REFERENCES
from iqa_metrics.statistics.intervals import Bootstrap as Bootstrap
from iqa_metrics.statistics.intervals import Interval as Interval
from iqa_metrics.statistics.intervals import Resampling as Resampling
from iqa_metrics.statistics.intervals import srocc_bootstrap as srocc_bootstrap
from iqa_metrics.statistics.intervals import srocc_difference as srocc_difference
from iqa_metrics.statistics.intervals import srocc_interval as srocc_interval
from iqa_metrics.statistics.intervals import srocc_without as srocc_without
from iqa_metrics.statistics.logistic import Logistic as Logistic
from iqa_metrics.statistics.logistic import fit_logistic as fit_logistic
from iqa_metrics.statistics.logistic import plcc_logistic as plcc_logistic
from iqa_metrics.statistics.logistic import predicted_by_logistic as predicted_by_logistic
from iqa_metrics.statistics.measures import FEWEST as FEWEST
from iqa_metrics.statistics.measures import Measures as Measures
from iqa_metrics.statistics.measures import measures as measures
from iqa_metrics.statistics.noise import noise_weights as noise_weights
from iqa_metrics.statistics.noise import opinion_reach as opinion_reach
from iqa_metrics.statistics.noise import outlier_ratio as outlier_ratio
from iqa_metrics.statistics.noise import standard_errors as standard_errors
from iqa_metrics.statistics.noise import weighted_plcc as weighted_plcc
from iqa_metrics.statistics.noise import weighted_srocc as weighted_srocc
from iqa_metrics.statistics.roc import Areas as Areas
from iqa_metrics.statistics.roc import areas_under_roc as areas_under_roc
from iqa_metrics.statistics.within import srocc_within as srocc_within
from iqa_metrics.statistics.within import within_bootstrap as within_bootstrap
from iqa_metrics.statistics.within import within_references as within_references
