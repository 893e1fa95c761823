"""The paper's architectures and recipes as data: data/*.csv in the paper's row and column order.

`*_arch.csv` (filter groups per layer: Tables 1, 3, 7) is what the generator is fed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from rootgen import paths
from rootgen.errors import UnknownNameError
from rootgen.grouping import Plan
from rootgen.text import read_csv

ORIGINAL_ROW = "Orig."


@dataclass(frozen=True)
class GroupTable:
    """Filter groups per layer: the columns are layer names, or patterns where the paper gives a stage one column.

    `stages` has, per column, the place in a plan (1: the first grouped stage); 0: no rule groups this column.
    """

    columns: tuple[str, ...]
    stages: tuple[int, ...]
    rows: dict[str, tuple[int, ...]]

    def by_rule(self, plan: Plan) -> tuple[int, ...]:
        """Groups per column by the plan's rule."""
        groups = [1, *plan.stage_groups(max(self.stages))]
        return tuple(groups[stage] for stage in self.stages)

    def row_of(self, groups: tuple[int, ...]) -> str | None:
        """The row that has exactly these groups per column."""
        return next((name for name, row in self.rows.items() if row == groups), None)


@dataclass(frozen=True)
class Arch:
    """One architecture: its title, where its groups come from, template, blocks per stage (ResNets), recipe, crop.

    `results` is the paper's table of its results, "" if none; FLOPs there are in 10^flops_unit, and so on; `miscounted`
    is whether that table is a miscount (see docs/errata.md). `rendered`: its nets are kept in prototxt/, and not just
    emitted on demand.
    """

    name: str
    title: str
    table: str
    groups_from: str
    template: str
    blocks: tuple[int, ...]
    recipe: str
    crop: int
    results: str
    flops_unit: int
    params_unit: int
    miscounted: bool
    rendered: bool

    @property
    def groups(self) -> GroupTable:
        """The architecture's table of filter groups."""
        return group_table(self.groups_from)


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained: images (the set's name), data, batch sizes, the learning rate with its source.

    The learning rate falls tenfold at each of `drops` and training ends at `stop`, both counted in `unit`s.
    """

    images: str
    data: str
    train_images: int
    test_images: int
    classes: int
    mean: str
    batch_size: int
    iter_size: int
    test_batch_size: int
    base_lr: str
    weight_decay: str
    unit: str
    drops: tuple[int, ...]
    stop: int
    source: str


def row_folder(row: str) -> str:
    """Folder name of a table's row: `orig` for `Orig.`, else the row's own name."""
    return row.rstrip(".").lower()


@cache
def architectures() -> dict[str, Arch]:
    """Every architecture, by name, in the order the paper takes them up."""
    return {
        row["arch"]: Arch(
            name=row["arch"],
            title=row["title"],
            table=row["table"],
            groups_from=row["groups_from"],
            template=row["template"],
            blocks=_numbers(row["blocks"]),
            recipe=row["recipe"],
            crop=int(row["crop"]),
            results=row["results"],
            flops_unit=int(row["flops_unit"] or 0),
            params_unit=int(row["params_unit"] or 0),
            miscounted=bool(row["miscounted"]),
            rendered=bool(row["rendered"]),
        )
        for row in _read("architectures.csv")
    }


def architecture(name: str) -> Arch:
    """The architecture called `name`."""
    known = architectures()
    if name not in known:
        raise UnknownNameError(f"no architecture '{name}'", name, known)
    return known[name]


@cache
def group_table(name: str) -> GroupTable:
    """The table data/`name`_arch.csv."""
    stages, *rows = _read(f"{name}_arch.csv")
    columns = tuple(stages)[1:]
    return GroupTable(
        columns=columns,
        stages=tuple(int(stages[column]) for column in columns),
        rows={row["model"]: tuple(int(row[column]) for column in columns) for row in rows},
    )


@cache
def recipe(name: str) -> Recipe:
    """The recipe called `name` in data/recipes.csv."""
    row = next(row for row in _read("recipes.csv") if row["recipe"] == name)
    return Recipe(
        images=row["images"],
        data=row["data"],
        train_images=int(row["train_images"]),
        test_images=int(row["test_images"]),
        classes=int(row["classes"]),
        mean=row["mean"],
        batch_size=int(row["batch_size"]),
        iter_size=int(row["iter_size"]),
        test_batch_size=int(row["test_batch_size"]),
        base_lr=row["base_lr"],
        weight_decay=row["weight_decay"],
        unit=row["unit"],
        drops=_numbers(row["drops"]),
        stop=int(row["stop"]),
        source=row["source"],
    )


def _read(file: str) -> list[dict[str, str]]:
    return read_csv(paths.data(file))


def _numbers(cell: str) -> tuple[int, ...]:
    return tuple(int(number) for number in cell.split())
