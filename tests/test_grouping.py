"""Plans of filter groups: the rules, and every way to ask for them wrongly."""

from functools import partial

import pytest

from rootgen.compound import Basis, Sizes
from rootgen.errors import RootgenError
from rootgen.grouping import LayerGroups, Plan, check_named, of_layer, parse_bases, parse_by_hand

FORMS = "for example --group conv2a=4, conv2a=96+48+48 or '*/5x5=root-4'"
BASES = [
    ("", "''", "no shapes of kernels (3x1+1x3, or with the full kernel kx1+1xk+kxk)"),
    ("3x", "3x", "no shapes of kernels (3x1+1x3, or with the full kernel kx1+1xk+kxk)"),
    ("3x1", "3x1", "a basis has two shapes or more, each once (3x1+1x3)"),
    ("3x1+3x1", "3x1+3x1", "a basis has two shapes or more, each once (3x1+1x3)"),
    ("1x1+1x3", "1x1+1x3", "its kernels are larger than 1x1 (3x1+1x3)"),
    ("0x1+1x3", "0x1+1x3", "the side of a kernel is a whole number from 1 to 2147483647"),
]


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
        *(
            (partial(parse_by_hand, [word]), f"--group {word}: not of the form LAYER=N ({FORMS})")
            for word in ("conv2a", "conv2a=x", "=4", "conv2a=root-", "conv2a=tree-x", "conv2a=-4", "conv2a=9999999999")
        ),
        (lambda: parse_by_hand(["a=2", "a=4"]), "--group sets 'a' to 2 and to 4 (keep one of them)"),
        (
            lambda: parse_by_hand(["a=96+0"]),
            "--group a: 96+0: the size of a group is a whole number from 1 to 2147483647",
        ),
        (
            lambda: parse_by_hand(["a=96+"]),
            "--group a: 96+: no sizes of groups (96+48+48, or with input channels 48/96+48/96)",
        ),
        (
            lambda: parse_by_hand(["a=4/8+8"]),
            "--group a: 4/8+8: no sizes of groups (96+48+48, or with input channels 48/96+48/96)",
        ),
        (lambda: Plan(by_hand=(("a", Plan()),)), "a=original: no rule (root-N, column-N or tree-N)"),
        (lambda: Plan.of(group={"a": []}), "groups of given sizes, and no size (96+48+48)"),
        *(
            (partial(parse_bases, [f"{layer}={told}"] if layer else [told]), f"{option}: {shown}: {why}")
            for layer, option in (("", "--basis"), ("a", "--basis a"))
            for told, shown, why in BASES
        ),
        *(
            (partial(Plan.of, basis={layer: told} if layer else told), f"{name}: {shown}: {why}")
            for layer, name in (("", "basis"), ("a", "basis['a']"))
            for told, shown, why in BASES
        ),
        (lambda: Basis(((-3, 1), (1, 3))), "-3x1+1x3: the side of a kernel is a whole number from 1 to 2147483647"),
        (
            lambda: parse_bases(["3x1+1x3", "kx1+1xk"]),
            "--basis sets 'all' to 3x1+1x3 and to kx1+1xk (keep one of them)",
        ),
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
    assert parse_by_hand(["inception_3a/3x3=4", "odd=name=2"]) == {"inception_3a/3x3": 4, "odd=name": 2}
    assert parse_by_hand(["a=96+48", "a/b=1/96+2/48", "*/5x5=root-4"]) == {
        "a": Sizes((96, 48)),
        "a/b": Sizes((96, 48), (1, 2)),
        "*/5x5": Plan("root", 4),
    }
    assert parse_bases(["3x1+1x3", "a=b=kx1+1xk"]) == {
        "": Basis(((3, 1), (1, 3))),
        "a=b": Basis(((None, 1), (1, None))),
    }


def test_python_says_the_same_as_the_command_line():
    group = {"a": 4, "b": "96+48", "c": (96, 48), "d": "root-2"}
    plan = Plan.of(root=8, group=group, basis={"e": "3x1+1x3"})
    assert str(plan) == "root-8 a=4 b=96+48 c=96+48 d=root-2 basis e=3x1+1x3"
    assert dict(plan.by_hand) == parse_by_hand(["a=4", "b=96+48", "c=96+48", "d=root-2"])
    assert str(plan.compound) == "b=96+48 c=96+48 basis e=3x1+1x3"
    assert Plan.of(basis="3x1+1x3") == Plan(basis=(("", Basis(((3, 1), (1, 3)))),))
    assert Plan.of(root=8).compound == Plan()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plan.of(group={"a": 2.5}), "group['a'] is a float, not a whole number"),
        (lambda: Plan.of(group={"a": (96, "48")}), "a size in outputs is a str, not a whole number"),
        (lambda: Plan.of(group={"a": b"4"}), "group['a'] is a bytes, not a whole number"),
        (lambda: Basis([(3, 1), (1, 3)]), "shapes is a list, not a tuple of (height, width)"),
        (lambda: Basis(((3, 1, 1), (1, 3))), "a shape of a basis is a tuple, not a tuple (height, width)"),
        (lambda: Basis((("k", 1), (1, 3))), "a side of a kernel is a str, not a whole number"),
        (lambda: Plan.of(basis=3), "basis is an int, not text such as '3x1+1x3'"),
        (lambda: Plan.of(basis={"a": 3}), "basis['a'] is an int, not text such as '3x1+1x3'"),
        (lambda: Plan(basis=(("a", "3x1"),)), "basis of 'a' is a str, not a Basis"),
    ],
)
def test_wrong_types_are_named(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message


def test_a_name_comes_before_patterns_and_the_first_pattern_before_the_next():
    settings = (("*/5x5", 4), ("3a/*", 2), ("3a/5x5", 8), ("odd[1]", 3))
    layers = ("3a/5x5", "3b/5x5", "3a/3x3", "3b/3x3", "odd[1]", "odd1")
    assert [of_layer(settings, layer) for layer in layers] == [8, 4, 2, None, 3, 3]


def test_layer_takes_its_group_by_hand_then_by_column_then_1():
    groups = LayerGroups({"res2?_branch2b": 8}, by_hand=[("res2b_branch2b", 2)])
    assert [groups[f"res2{block}_branch2b"] for block in "abc"] == [8, 2, 8]
    assert groups["res2a_branch2a"] == 1


def test_layer_takes_a_rule_of_its_own_and_sizes_leave_it_plain():
    rule = Plan("root", 4)
    by_hand = [("*/5x5", rule), ("3b/3x3", Sizes((64, 32)))]
    groups = LayerGroups({"3?/3x3": 8, "3?/5x5": 8}, by_hand, {rule: {"3?/3x3": 2, "3?/5x5": 2}})
    assert [groups[layer] for layer in ("3a/3x3", "3a/5x5", "3b/3x3", "3b/5x5")] == [8, 2, 1, 2]


@pytest.mark.parametrize("plan", [Plan.of(group={"conv9": 2}), Plan.of(basis={"conv9": "3x1+1x3"})], ids=str)
def test_layer_by_hand_that_was_never_asked_for(plan):
    with pytest.raises(RootgenError, match=r"nin: no convolution 'conv9' to give groups to \(did you mean 'conv2'\?\)"):
        check_named(plan, ["conv2"], "nin")
    with pytest.raises(RootgenError, match=r"no convolution '\*9' to give groups to \(known: conv2\)"):
        check_named(Plan.of(group={"*2": 4, "*9": 2}), ["conv2"], "nin")
