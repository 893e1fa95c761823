"""What tells a difference from chance, against SciPy's own tests on the plain samples and against counting by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from rootgen.paper.results import Replicates, RunResult
from rootgen.paper.statistics import rank_agreement, welch


def row(*accuracies: float) -> Replicates:
    runs = [RunResult("nin", "r", "cifar10", 10, 1, 1, 1, accuracy, 1, "cpu", "torch") for accuracy in accuracies]
    return Replicates("r", tuple(runs))


def test_welch_is_scipys() -> None:
    first, second = (0.91, 0.915, 0.912), (0.90, 0.93, 0.92, 0.925)
    assert welch(row(*first), row(*second)) == pytest.approx(stats.ttest_ind(first, second, equal_var=False).pvalue)
    far = welch(row(0.91, 0.911, 0.912), row(0.81, 0.811, 0.812))
    assert 0 < far < 1e-6


@pytest.mark.parametrize("other", [(0.9,), (0.9, 0.9)])
def test_without_spread_there_is_no_telling(other: tuple[float, ...]) -> None:
    assert math.isnan(welch(row(0.91, 0.91), row(*other)))
    assert math.isnan(welch(row(0.9), row(0.8, 0.81)))


def test_a_row_that_does_not_vary_is_told_apart_by_the_other_ones_spread() -> None:
    assert 0 < welch(row(0.9, 0.9), row(0.8, 0.81)) < 0.1


def named(values: Sequence[float]) -> dict[str, float]:
    return {f"row-{number}": value for number, value in enumerate(values)}


@pytest.mark.parametrize("measured", [(1, 2, 3, 4), (4, 3, 2, 1), (2, 1, 4, 3), (1, 1, 2, 3), (3, 1, 2, 5, 4)])
def test_p_counts_the_orders_that_agree_as_much(measured: tuple[float, ...]) -> None:
    paper = np.arange(len(measured))
    found = rank_agreement(named(paper), named(measured))
    assert found is not None
    assert found.rho == pytest.approx(stats.spearmanr(paper, measured).statistic)
    ranks = stats.rankdata(measured)
    strengths = np.array([np.corrcoef(order, ranks)[0, 1] for order in permutations(paper)])
    one_sided = [(strengths >= found.rho - 1e-9).mean(), (strengths <= found.rho + 1e-9).mean()]
    assert found.p == pytest.approx(min(1, 2 * min(one_sided)))
    assert found.n == len(measured)


def test_of_many_rows_p_is_scipys() -> None:
    measured = [3, 1, 2, 5, 4, 7, 6, 9, 8, 10]
    found = rank_agreement(named(range(10)), named(measured))
    assert found is not None
    assert found.p == pytest.approx(stats.spearmanr(range(10), measured).pvalue)


def test_rows_that_both_have_count_and_few_or_equal_ones_rank_nothing() -> None:
    paper = named((1, 2, 3, 4, 5))
    assert rank_agreement(paper, named((1, 2, 3))) is None
    assert rank_agreement(paper, named((1, 1, 1, 1, 1))) is None
    found = rank_agreement(paper, named((1, 2, 3, 4)) | {"other": 9})
    assert found is not None
    assert found.n == 4
