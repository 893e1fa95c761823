"""Plans of filter groups: how many groups (Caffe's `group`) each stage of a network gets.

The paper's three topologies (section 3): root-N halves the groups from stage to stage with depth, column-N
keeps them, tree-N doubles them. A plan may also set single layers by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from rootgen.errors import RootgenError, did_you_mean, integer, wrong_type

RULES = ("root", "column", "tree")
KINDS = ("original", *RULES)
MAX_GROUP = 2**16  # far above the channels of any network, far below what Caffe's uint32 holds


@dataclass(frozen=True)
class Plan:
    """A rule (`kind` with `n` groups in the first grouped stage) and the layers set by hand on top of it.

    `original` keeps the groups that a network came with.
    """

    kind: str = "original"
    n: int = 1
    by_hand: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str):
            raise wrong_type("kind", self.kind, "text")
        if self.kind not in KINDS:
            raise RootgenError(f"no plan '{self.kind}'", hint=did_you_mean(self.kind, KINDS))
        _check_count(integer("n", self.n), f"{self.kind} {self.n}")
        if not isinstance(self.by_hand, tuple):
            raise wrong_type("by_hand", self.by_hand, "a tuple of (layer, groups); Plan.of takes a dict")
        for pair in self.by_hand:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise wrong_type("an element of by_hand", pair, "a tuple (layer, groups)")
            _check_count(integer(f"by_hand of '{pair[0]}'", pair[1]), f"{pair[0]}={pair[1]}")

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
        group: Mapping[str, int] | None = None,
    ) -> Plan:
        """The plan of at most one rule and of layers set by hand (`group`: name -> groups); none is the original."""
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
            by_hand.append((layer, integer(f"group['{layer}']", n)))
        kind, n = next(iter(rules.items()), ("original", 1))
        return cls(kind, integer(kind, n), tuple(by_hand))

    def __str__(self) -> str:
        """Short name: `root-8`, `conv2a=4`, or both."""
        by_hand = [f"{layer}={group}" for layer, group in self.by_hand]
        if self.kind == "original":
            return " ".join(by_hand) or self.kind
        return " ".join([f"{self.kind}-{self.n}", *by_hand])

    def stage_groups(self, stages: int) -> list[int]:
        """Groups of each of `stages` successive stages, the one nearest the image first."""
        if self.kind == "root":
            return [max(1, self.n >> stage) for stage in range(stages)]
        if self.kind == "tree":
            return [self.n << stage for stage in range(stages)]
        return [self.n] * stages


def chosen(
    plan: object, root: int | None, column: int | None, tree: int | None, group: Mapping[str, int] | None
) -> Plan:
    """The argument `plan` of a call, or what the other four ask for (see Plan.of); both is an error."""
    asked = Plan.of(root=root, column=column, tree=tree, group=group)
    if plan is None:
        return asked
    if not isinstance(plan, Plan):
        raise wrong_type("plan", plan, "a rootgen.Plan")
    if asked != Plan():
        raise RootgenError(f"plan is {plan}, and {asked} is asked for too", hint="put all of it into the plan")
    return plan


def parse_by_hand(settings: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """(layer, groups) of each `LAYER=N`, as `--group` takes them; a layer name may itself hold a `=`."""
    groups: dict[str, int] = {}
    for setting in settings:
        layer, equals, number = setting.rpartition("=")
        if not (equals and layer and number.isascii() and number.isdigit() and len(number) < 10):
            raise RootgenError(f"--group {setting}: not of the form LAYER=N", hint="for example --group conv2a=4")
        if groups.setdefault(layer, int(number)) != int(number):
            raise RootgenError(
                f"--group sets '{layer}' to {groups[layer]} and to {int(number)}", hint="keep one of them"
            )
    return tuple(groups.items())


class LayerGroups:
    """Groups of any layer by name: set by hand, else by the column whose pattern the name matches, else 1.

    Remembers which layers were asked for, since only the template knows all the layers of a network.
    """

    def __init__(self, columns: Mapping[str, int], by_hand: Iterable[tuple[str, int]] = ()) -> None:
        self.columns = columns
        self.by_hand = dict(by_hand)
        self.asked: dict[str, int] = {}

    def __getitem__(self, layer: str) -> int:
        if layer not in self.asked:
            self.asked[layer] = self.by_hand.get(layer) or self._by_column(layer)
        return self.asked[layer]

    def check_all_used(self, where: object) -> None:
        """Refuse a layer set by hand that the network does not have."""
        for layer in self.by_hand:
            if layer not in self.asked:
                raise no_layer(layer, self.asked, where)

    def _by_column(self, layer: str) -> int:
        matches = (group for pattern, group in self.columns.items() if fnmatchcase(layer, pattern))
        return next(matches, 1)


def no_layer(layer: str, known: Collection[str], where: object) -> RootgenError:
    """The error for groups asked of a convolution that is not there."""
    return RootgenError(f"no convolution '{layer}' to give groups to", where=where, hint=did_you_mean(layer, known))


def _check_count(group: int, what: str) -> None:
    if not 1 <= group <= MAX_GROUP:
        raise RootgenError(f"{what}: the number of groups is a whole number from 1 to {MAX_GROUP}")


ORIGINAL = Plan()
