"""Plans of filter groups: the rules, and every way to ask for them wrongly."""

import pytest

from rootgen.errors import RootgenError
from rootgen.grouping import LayerGroups, Plan, parse_by_hand


@pytest.mark.parametrize(
    ("plan", "groups"),
    [
        (Plan("root", 64), [64, 32, 16, 8, 4]),
        (Plan("root", 4), [4, 2, 1, 1, 1]),
        (Plan("root", 6), [6, 3, 1, 1, 1]),
        (Plan("root", 1), [1, 1, 1, 1, 1]),
        (Plan("column", 4), [4, 4, 4, 4, 4]),
        (Plan("tree", 2), [2, 4, 8, 16, 32]),
    ],
    ids=str,
)
def test_rule(plan, groups):
    assert plan.stage_groups(5) == groups


@pytest.mark.parametrize("n", range(1, 130))
def test_groups_of_a_root_never_increase_with_depth(n):
    groups = Plan("root", n).stage_groups(8)
    assert groups == sorted(groups, reverse=True)
    assert groups[0] == n
    assert groups[-1] >= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan("root", 0), "root 0: the number of groups is a whole number from 1 to 65536"),
        (lambda: Plan("column", -4), "column -4: the number of groups is a whole number from 1 to 65536"),
        (lambda: Plan("rot", 2), "no plan 'rot' (did you mean 'root'?)"),
        (lambda: Plan(by_hand=(("conv2a", 0),)), "conv2a=0: the number of groups is a whole number from 1 to 65536"),
        (
            lambda: parse_by_hand(["conv2a"]),
            "--group conv2a: not of the form LAYER=N (for example --group conv2a=4, conv2a=96+48+48 or '*/5x5=root-4')",
        ),
        (
            lambda: parse_by_hand(["conv2a=x"]),
            "--group conv2a=x: not of the form LAYER=N (for example --group conv2a=4, conv2a=96+48+48 or '*/5x5=root-4')",
        ),
        (lambda: parse_by_hand(["a=2", "a=4"]), "--group sets 'a' to 2 and to 4 (keep one of them)"),
    ],
)
def test_refused(make, message):
    with pytest.raises(RootgenError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan(3), "kind is an int"),
        (lambda: Plan("root", 2.5), "n is a float, not"),
        (lambda: Plan("root", True), "n is a bool, not"),
        (lambda: Plan(by_hand={"conv2a": 2}), "by_hand is a dict, not"),
        (lambda: Plan(by_hand=(("conv2a", 2, 3),)), "an element of by_hand is"),
        (lambda: Plan(by_hand=((1, 2),)), "an element of by_hand is"),
        (lambda: Plan(by_hand=(("conv2a", "2"),)), "by_hand of 'conv2a' is"),
    ],
)
def test_wrong_types(make, message):
    with pytest.raises(TypeError) as error:
        make()
    assert str(error.value).startswith(message)


def test_by_hand():
    assert parse_by_hand(["inception_3a/3x3=4", "odd=name=2"]) == (("inception_3a/3x3", 4), ("odd=name", 2))


def test_layer_takes_its_group_by_hand_then_by_column_then_1():
    groups = LayerGroups({"res2?_branch2b": 8}, by_hand=[("res2b_branch2b", 2)])
    assert [groups[f"res2{block}_branch2b"] for block in "abc"] == [8, 2, 8]
    assert groups["res2a_branch2a"] == 1


def test_layer_by_hand_that_was_never_asked_for():
    groups = LayerGroups({}, by_hand=[("conv9", 2)])
    assert groups["conv2"] == 1
    with pytest.raises(RootgenError, match=r"nin: no convolution 'conv9' to give groups to \(did you mean 'conv2'\?\)"):
        groups.check_all_used("nin")
