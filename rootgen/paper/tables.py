"""What the paper prints, as data: data/*.csv in the paper's row and column order.

`*_reported.csv` (Tables 2, 4, 5, 6) is what the paper measured, kept as the strings it prints and never corrected here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache

from rootgen import paths
from rootgen.generator.architectures import architecture
from rootgen.text import read_csv

RECORDS = "networks.csv"


@cache
def reported(arch: str) -> dict[str, dict[str, str]]:
    """The paper's results table of an architecture: row -> column -> cell as printed; empty where it has none."""
    if not architecture(arch).results:
        return {}
    return {row["model"]: row for row in _read(f"{arch}_reported.csv")}


@dataclass(frozen=True)
class Claim:
    """A percentage in the paper's text: `row` compared with the row `against`, in one quantity.

    kind "less": so many percent less; "of": so many percent of; "more": so many points of percent more.
    """

    place: str
    arch: str
    row: str
    against: str
    quantity: str
    kind: str
    percent: str


@cache
def claims() -> tuple[Claim, ...]:
    """The percentages claimed in the paper's text, in its order."""
    return tuple(Claim(**row) for row in _read("claims.csv"))


@cache
def author_counts() -> dict[tuple[str, str], tuple[int, int]]:
    """(architecture, row) -> whole FLOPs and params, from the data behind the first author's thesis.

    The thesis reprints the paper's tables (github.com/yanii/phd-thesis, rootdata/ at 201de2b and dfd0b3d) and
    adds NiN's column and tree variants, which the paper only plots (Fig. 5).
    """
    rows = _read("author_counts.csv")
    return {(row["arch"], row["model"]): (int(row["flops"]), int(row["params"])) for row in rows}


@dataclass(frozen=True)
class NetworkRecord:
    """One row of networks.csv: parameters and multiply-adds per image of the deploy net, sha256 of the three files."""

    arch: str
    row: str
    params: int
    macs: int
    train_val: str
    deploy: str
    solver: str

    @classmethod
    def header(cls) -> str:
        """The first line of networks.csv."""
        return ",".join(cls.__dataclass_fields__) + "\n"

    @property
    def line(self) -> str:
        """The record as a line of networks.csv."""
        return ",".join(map(str, asdict(self).values())) + "\n"


@cache
def recorded() -> dict[tuple[str, str], NetworkRecord]:
    """(architecture, row) -> its record in networks.csv."""
    found = {}
    for cells in _read(RECORDS):
        counts = {name: int(cells.pop(name)) for name in ("params", "macs")}
        found[cells["arch"], cells["row"]] = NetworkRecord(**cells, **counts)  # type: ignore[arg-type]
    return found


@cache
def errata() -> tuple[dict[str, str], ...]:
    """What is wrong in the paper (data/errata.csv): where, what it says, what was found, how to see it."""
    return tuple(_read("errata.csv"))


def _read(file: str) -> list[dict[str, str]]:
    return read_csv(paths.data(file))
