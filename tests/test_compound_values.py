"""Sizes of filter groups and spatial bases as values: what they say, which convolutions can have them, shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootgen.compound import Basis, Shaped, Sizes
from rootgen.errors import RootgenError


@pytest.mark.parametrize("text", ["96+48+48", "48/96+24/48+24/48", "3/7"])
def test_sizes_are_written_as_they_are_read(text):
    assert str(Sizes.parse(text)) == text


@pytest.mark.parametrize("text", ["kx1+1xk", "3x1+1x3+3x3", "5x1+1x5+kxk"])
def test_a_basis_is_written_as_it_is_read(text):
    assert str(Basis.parse(text)) == text


def test_inputs_are_in_proportion_or_as_they_are_given():
    assert Sizes.parse("96+48+48").of(96, 192) == Sizes((96, 48, 48), (48, 24, 24))
    assert Sizes.parse("10/96+86/96").of(96, 192) == Sizes((96, 96), (10, 86))


@pytest.mark.parametrize(
    ("sizes", "channels", "message"),
    [
        ("96+48+40", 96, "96+48+40 makes 184 outputs, but it has 192"),
        ("48/96+40/96", 96, "48/96+40/96 takes 88 input channels, but it reads 96"),
        ("48+48+48+48", 3, "48+48+48+48 is 4 groups, but it reads 3 channels"),
        (
            "96+95+1",
            96,
            "95 of 192 outputs go with no whole number of its 96 input channels "
            "(say the inputs too, as in 48/96+48/96)",
        ),
    ],
)
def test_sizes_that_are_not_those_of_the_convolution(sizes, channels, message):
    with pytest.raises(RootgenError) as caught:
        Sizes.parse(sizes).of(channels, 192)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("basis", "num_output", "group", "outputs"),
    [
        ("3x1+1x3", 64, 1, [32, 32]),  # Ioannou et al., "gmp-lr"
        ("3x1+1x3+3x3", 64, 1, [24, 24, 16]),  # "gmp-lr-join-wfull"
        ("3x1+1x3+3x3", 512, 1, [192, 192, 128]),
        ("3x3+3x1+1x3", 64, 1, [16, 24, 24]),
        ("kx1+1xk+kxk", 64, 8, [24, 24, 16]),
        ("3x1+1x3", 192, 64, [128, 64]),
        ("3x1+1x3+3x3", 48, 16, [16, 16, 16]),
    ],
)
def test_outputs_are_shared_out_as_in_the_work_cited(basis, num_output, group, outputs):
    assert [one.num_output for one in Basis.parse(basis).split((3, 3), num_output, group)] == outputs


@given(st.sampled_from(["kx1+1xk", "kx1+1xk+kxk", "3x1+1x3+5x5+3x3"]), st.integers(1, 64), st.integers(1, 32))
def test_shares_add_up_and_groups_divide_each(basis, group, per_group):
    told = Basis.parse(basis)
    if per_group < len(told.shapes):
        with pytest.raises(RootgenError, match="are too few for the"):
            told.split((5, 5), group * per_group, group)
        return
    found = told.split((5, 5), group * per_group, group)
    assert sum(one.num_output for one in found) == group * per_group
    assert all(one.num_output > 0 and one.num_output % group == 0 for one in found)
    others = [one.num_output for one in found if one[:2] != (5, 5)]
    assert max(others) - min(others) in (0, group)


def test_k_is_the_size_of_the_kernel():
    assert Basis.parse("kx1+1xk").split((5, 7), 8, 1) == (Shaped(5, 1, 4), Shaped(1, 7, 4))
    for kernel, told in (((3, 3), "kx1+3x1"), ((1, 7), "kx1+1xk")):
        with pytest.raises(RootgenError, match="is no basis for a kernel of"):
            Basis.parse(told).split(kernel, 8, 1)
