"""Whether measured accuracies differ by more than chance, and whether they rank as the paper's do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rootgen.paper.results import Replicates

LEVEL = 0.05  # of significance
LEAST_RANKED = 4  # rows; three have six orders, so that no p is below a third
MOST_EXACT = 8  # rows whose orders are all gone through: 40 320


def welch(row: Replicates, base: Replicates) -> float:
    """p of Welch's t-test, two-sided, that the two rows' accuracies have one mean; nan where a row has a single run,
    or where nothing varies.
    """
    samples = [np.array([run.accuracy for run in one.runs]) for one in (row, base)]
    if min(map(len, samples)) < 2:
        return math.nan
    means, deviations, counts = zip(*((one.mean(), one.std(ddof=1), len(one)) for one in samples), strict=True)
    if max(deviations) <= 1e-12:  # equal, but for rounding
        return math.nan
    from scipy import stats

    (a, b), (x, y), (m, n) = means, deviations, counts
    return float(stats.ttest_ind_from_stats(a, x, m, b, y, n, equal_var=False).pvalue)


@dataclass(frozen=True)
class RankAgreement:
    """Spearman's rho of two orders of `n` rows, and p, two-sided, of as much agreement or disagreement by chance."""

    rho: float
    p: float
    n: int


def rank_agreement(paper: Mapping[str, float], measured: Mapping[str, float]) -> RankAgreement | None:
    """How far the rows that both have rank alike; None of fewer than LEAST_RANKED, or where all are equal.

    p is exact of up to MOST_EXACT rows (all orders of them), and of more by the t distribution.
    """
    from scipy import stats

    rows = [row for row in paper if row in measured]
    if len(rows) < LEAST_RANKED:
        return None
    a, b = (stats.rankdata([accuracies[row] for row in rows]) for accuracies in (paper, measured))
    if min(np.ptp(a), np.ptp(b)) == 0:
        return None
    rho, p = stats.spearmanr(a, b)
    if len(rows) <= MOST_EXACT:
        exact = stats.permutation_test(
            (a,), lambda x, axis: (x * b).sum(axis), permutation_type="pairings", n_resamples=np.inf, vectorized=True
        )
        p = exact.pvalue
    return RankAgreement(float(rho), float(p), len(rows))
