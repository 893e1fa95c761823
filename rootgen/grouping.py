"""Plans of filter groups: how many groups (Caffe's `group`) each stage of a network gets.

The paper's three topologies (section 3): root-N halves the groups from stage to stage with depth, column-N
keeps them, tree-N doubles them. A plan may also set single layers by hand, by name or by a pattern of names: a number
of groups, sizes of groups, or a rule of their own; and it may put a spatial basis in place of kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from rootgen.compound import Basis, Sizes
from rootgen.errors import RootgenError, did_you_mean, integer, wrong_type

RULES = ("root", "column", "tree")
KINDS = ("original", *RULES)
MAX_GROUP = 2**16  # far above the channels of any network, far below what Caffe's uint32 holds


@dataclass(frozen=True)
class Plan:
    """A rule (`kind` with `n` groups in the first grouped stage) and the layers set by hand on top of it.

    `original` keeps the groups that a network came with. `by_hand` has names of layers, or patterns of them (`*/5x5`),
    each with a number of groups, the sizes of them (Sizes), or a rule of its own (a Plan without layers by hand).
    `basis` has names or patterns too, and "" for every spatial convolution behind the image.
    """

    kind: str = "original"
    n: int = 1
    by_hand: tuple[tuple[str, int | Sizes | Plan], ...] = ()
    basis: tuple[tuple[str, Basis], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str):
            raise wrong_type("kind", self.kind, "text")
        if self.kind not in KINDS:
            raise RootgenError(f"no plan '{self.kind}'", hint=did_you_mean(self.kind, KINDS))
        _check_count(integer("n", self.n), f"{self.kind} {self.n}")
        for name in ("by_hand", "basis"):
            pairs = getattr(self, name)
            if not isinstance(pairs, tuple):
                raise wrong_type(name, pairs, "a tuple of (layer, groups); Plan.of takes a dict")
            for pair in pairs:
                if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                    raise wrong_type(f"an element of {name}", pair, "a tuple (layer, groups)")
        for layer, groups in self.by_hand:
            if isinstance(groups, Plan):
                if groups.kind == "original" or groups.by_hand or groups.basis:
                    raise RootgenError(f"{layer}={groups}: no rule", hint="root-N, column-N or tree-N")
            elif not isinstance(groups, Sizes):
                _check_count(integer(f"by_hand of '{layer}'", groups), f"{layer}={groups}")
        for layer, basis in self.basis:
            if not isinstance(basis, Basis):
                raise wrong_type(f"basis of '{layer}'", basis, "a Basis")

    @classmethod
    def named(cls, name: str) -> Plan:
        """The plan that a table's row is named after: `root-8`, `tree-2`; `Orig.` is the original."""
        kind, _, n = name.rpartition("-")
        return cls(kind, int(n)) if kind else cls()

    @classmethod
    def of(
        cls,
        *,
        root: int | None = None,
        column: int | None = None,
        tree: int | None = None,
        group: Mapping[str, Any] | None = None,
        basis: str | Basis | Mapping[str, str | Basis] | None = None,
    ) -> Plan:
        """The plan of at most one rule, of layers set by hand and of a basis; none is the original.

        `group` has names of layers, or patterns, with what `--group` takes: 4, "96+48+48" (or the outputs as a list),
        "root-4". `basis` is what `--basis` takes, for all spatial convolutions or by layer.
        """
        rules = {kind: n for kind, n in zip(RULES, (root, column, tree), strict=True) if n is not None}
        if len(rules) > 1:
            told = " and ".join(f"{kind}={n}" for kind, n in rules.items())
            raise RootgenError(f"{told}: only one rule at a time", hint="keep one of root, column and tree")
        if group is not None and not isinstance(group, Mapping):
            raise wrong_type("group", group, "a dict of layer name to number of groups")
        by_hand = []
        for layer, n in (group or {}).items():
            if not isinstance(layer, str):
                raise wrong_type("a layer of group", layer, "text")
            by_hand.append((layer, _groups_of(f"group['{layer}']", n)))
        kind, n = next(iter(rules.items()), ("original", 1))
        return cls(kind, integer(kind, n), tuple(by_hand), tuple(_bases_of(basis)))

    def __str__(self) -> str:
        """Short name: `root-8`, `conv2a=4`, or both; a basis at the end."""
        rule = [] if self.kind == "original" else [f"{self.kind}-{self.n}"]
        by_hand = [f"{layer}={group}" for layer, group in self.by_hand]
        basis = [f"basis {layer}={basis}" if layer else f"basis {basis}" for layer, basis in self.basis]
        return " ".join([*rule, *by_hand, *basis]) or self.kind

    @property
    def compound(self) -> Plan:
        """What of it takes several convolutions for one: sizes of groups, and the basis."""
        return Plan(by_hand=tuple(pair for pair in self.by_hand if isinstance(pair[1], Sizes)), basis=self.basis)

    def stage_groups(self, stages: int) -> list[int]:
        """Groups of each of `stages` successive stages, the one nearest the image first."""
        if self.kind == "root":
            return [max(1, self.n >> stage) for stage in range(stages)]
        if self.kind == "tree":
            return [self.n << stage for stage in range(stages)]
        return [self.n] * stages


def chosen(
    plan: object,
    root: int | None,
    column: int | None,
    tree: int | None,
    group: Mapping[str, Any] | None,
    *,
    basis: str | Basis | Mapping[str, str | Basis] | None = None,
) -> Plan:
    """The argument `plan` of a call, or what the others ask for (see Plan.of); both is an error."""
    asked = Plan.of(root=root, column=column, tree=tree, group=group, basis=basis)
    if plan is None:
        return asked
    if not isinstance(plan, Plan):
        raise wrong_type("plan", plan, "a rootgen.Plan")
    if asked != Plan():
        raise RootgenError(f"plan is {plan}, and {asked} is asked for too", hint="put all of it into the plan")
    return plan


def parse_by_hand(settings: Iterable[str]) -> dict[str, int | Sizes | Plan]:
    """Layer or pattern -> groups of each `LAYER=N`, as `--group` takes them; a layer name may itself hold a `=`."""
    found: dict[str, int | Sizes | Plan] = {}
    for setting in settings:
        layer, equals, told = setting.rpartition("=")
        groups = _parse_groups(told, f"--group {layer}") if equals and layer else None
        if groups is None:
            raise RootgenError(
                f"--group {setting}: not of the form LAYER=N",
                hint="for example --group conv2a=4, conv2a=96+48+48 or '*/5x5=root-4'",
            )
        if found.setdefault(layer, groups) != groups:
            raise RootgenError(f"--group sets '{layer}' to {found[layer]} and to {groups}", hint="keep one of them")
    return found


def parse_bases(settings: Iterable[str]) -> dict[str, Basis]:
    """Layer or pattern -> basis of each `LAYER=SHAPES`, as `--basis` takes them; `SHAPES` alone has the layer ""."""
    found: dict[str, Basis] = {}
    for setting in settings:
        layer, _, shapes = setting.rpartition("=")
        basis = _parse_basis(shapes, f"--basis {layer}" if layer else "--basis")
        if found.setdefault(layer, basis) != basis:
            raise RootgenError(
                f"--basis sets '{layer or 'all'}' to {found[layer]} and to {basis}", hint="keep one of them"
            )
    return found


def _parse_groups(told: str, what: str) -> int | Sizes | Plan | None:
    """A number of groups, their sizes, or a rule; None where `told` is none of these."""
    kind, _, n = told.rpartition("-")
    if kind in RULES:
        return Plan(kind, int(n)) if _is_number(n) else None
    if "+" in told or "/" in told:
        try:
            return Sizes.parse(told)
        except RootgenError as error:
            raise RootgenError(f"{what}: {error.what}", hint=error.hint) from None
    return int(told) if _is_number(told) else None


def _parse_basis(told: str, what: str) -> Basis:
    try:
        return Basis.parse(told)
    except RootgenError as error:
        raise RootgenError(f"{what}: {error.what}", hint=error.hint) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _groups_of(name: str, value: Any) -> int | Sizes | Plan:
    """The groups of a layer as a Python call may give them."""
    if isinstance(value, (Sizes, Plan)):
        return value
    if isinstance(value, str) and not _is_number(value):  # a number is given as one
        found = _parse_groups(value, name)
        if found is None:
            raise RootgenError(f"{name} is '{value}': no groups", hint="a number, '96+48+48' or 'root-4'")
        return found
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return Sizes(tuple(value))
    return integer(name, value)


def _bases_of(basis: Any) -> Iterable[tuple[str, Basis]]:
    """The bases of a Python call, by layer."""
    for layer, told in basis.items() if isinstance(basis, Mapping) else [] if basis is None else [("", basis)]:
        if not isinstance(layer, str):
            raise wrong_type("a layer of basis", layer, "text")
        name = f"basis['{layer}']" if layer else "basis"
        if not isinstance(told, (str, Basis)):
            raise wrong_type(name, told, "text such as '3x1+1x3'")
        yield layer, _parse_basis(told, name) if isinstance(told, str) else told


Setting = TypeVar("Setting")


def of_layer(settings: Iterable[tuple[str, Setting]], layer: str) -> Setting | None:
    """What is set for a layer: by its own name, else by the first pattern that it matches; None for nothing."""
    patterns = list(settings)
    by_name = (value for name, value in patterns if name == layer)
    return next(by_name, next((value for name, value in patterns if fnmatchcase(layer, name)), None))


def check_named(plan: Plan, layers: Collection[str], where: object) -> None:
    """Refuse a plan with a name, or a pattern, that none of the convolutions `layers` has."""
    for name in dict.fromkeys([name for name, _ in plan.by_hand] + [name for name, _ in plan.basis if name]):
        if name not in layers and not any(fnmatchcase(layer, name) for layer in layers):
            raise no_layer(name, layers, where)


class LayerGroups:
    """Groups of any layer by name: set by hand, else by the column whose pattern the name matches, else 1.

    `rules` has the columns of each rule that layers are given by hand. Groups of given sizes are 1 here: they are not
    made by `group`. Remembers which layers were asked for, since only the template knows all the layers of a network.
    """

    def __init__(
        self,
        columns: Mapping[str, int],
        by_hand: Iterable[tuple[str, int | Sizes | Plan]] = (),
        rules: Mapping[Plan, Mapping[str, int]] = {},
    ) -> None:
        self.columns = columns
        self.by_hand = tuple(by_hand)
        self.rules = rules
        self.asked: dict[str, int] = {}

    def __getitem__(self, layer: str) -> int:
        if layer not in self.asked:
            self.asked[layer] = self._groups(layer)
        return self.asked[layer]

    def _groups(self, layer: str) -> int:
        hand = of_layer(self.by_hand, layer)
        if isinstance(hand, Sizes):
            return 1
        if isinstance(hand, int):
            return hand
        columns = self.columns if hand is None else self.rules[hand]
        return next((group for pattern, group in columns.items() if fnmatchcase(layer, pattern)), 1)


def no_layer(layer: str, known: Collection[str], where: object) -> RootgenError:
    """The error for groups asked of a convolution that is not there."""
    return RootgenError(f"no convolution '{layer}' to give groups to", where=where, hint=did_you_mean(layer, known))


def _check_count(group: int, what: str) -> None:
    if not 1 <= group <= MAX_GROUP:
        raise RootgenError(f"{what}: the number of groups is a whole number from 1 to {MAX_GROUP}")


ORIGINAL = Plan()
