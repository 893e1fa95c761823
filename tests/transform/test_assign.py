"""Groups of channels that keep the most: never less than slicing, and what was hidden is found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootgen.errors import RootgenError
from rootgen.transform.assign import assign, shuffled


@pytest.mark.parametrize("group", [2, 3, 6])
def test_hidden_blocks_are_found(group):
    random = np.random.default_rng(0)
    blocks = np.kron(np.eye(group), np.ones((12 // group, 18 // group)))
    rows, columns = random.permutation(12), random.permutation(18)
    found = assign(blocks[rows][:, columns], group)
    assert found.kept == pytest.approx(1.0)
    assert found.sliced < 0.8
    cut = blocks[rows][:, columns][found.outputs][:, found.inputs]
    size = 12 // group, 18 // group
    for g in range(group):
        assert cut[g * size[0] : (g + 1) * size[0], g * size[1] : (g + 1) * size[1]].all()


@settings(max_examples=30)
@given(
    group=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
    moves=st.tuples(st.booleans(), st.booleans()),
)
def test_never_less_than_slicing(group, seed, moves):
    importance = np.random.default_rng(seed).random((8, 12)) ** 4
    found = assign(importance, group, move_outputs=moves[0], move_inputs=moves[1], starts=3, seed=seed)
    assert found.kept >= found.sliced - 1e-12
    assert sorted(found.outputs) == list(range(8))
    assert sorted(found.inputs) == list(range(12))
    if not moves[0]:
        assert list(found.outputs) == list(range(8))
    if not moves[1]:
        assert list(found.inputs) == list(range(12))
    blocks = importance[found.outputs][:, found.inputs].reshape(group, 8 // group, group, 12 // group)
    assert sum(blocks[g, :, g].sum() for g in range(group)) / importance.sum() == pytest.approx(found.kept)


def test_the_control_has_the_same_values():
    importance = np.arange(12.0).reshape(3, 4)
    control = shuffled(importance, seed=1)
    assert sorted(control.ravel()) == sorted(importance.ravel())
    assert (control != importance).any()


def test_groups_that_do_not_divide():
    with pytest.raises(RootgenError, match="3 groups do not divide 8 outputs and 12 inputs"):
        assign(np.ones((8, 12)), 3)
