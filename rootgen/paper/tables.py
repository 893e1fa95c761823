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
ACCURACIES = {"accuracy": "accuracy", "top1": "top-1", "top5": "top-5"}  # columns, and what tables call them
AUTHOR = "the author's thesis data (github.com/yanii/phd-thesis), not the paper's tables"
TIMES = {"cpu_ms": "CPU ms", "gpu_ms": "GPU ms"}


@cache
def reported(arch: str) -> dict[str, dict[str, str]]:
    """The paper's results table of an architecture: row -> column -> cell as printed; empty where it has none."""
    if not architecture(arch).results:
        return {}
    return {row["model"]: row for row in _read(f"{arch}_reported.csv")}


@dataclass(frozen=True)
class Claim:
    """A percentage or a figure in the paper's text: `row` compared with the row `against`, in one quantity.

    kind "less": so many percent less; "of": so many percent of; "more": so many points of percent more; "within": no
    more points apart than that; "count": a number by itself. `note` says what the reader should know.
    """

    place: str
    arch: str
    row: str
    against: str
    quantity: str
    kind: str
    claimed: str
    note: str


@cache
def claims() -> tuple[Claim, ...]:
    """What the paper's text claims in figures, in its order (data/claims.csv)."""
    return tuple(Claim(**row) for row in _read("claims.csv"))


@cache
def author_figures() -> dict[tuple[str, str], dict[str, str]]:
    """(architecture, row) -> column -> digits: data/author_figures.csv, the data behind the first author's thesis.

    The thesis reprints the paper's tables (github.com/yanii/phd-thesis, rootdata/) and adds NiN's column and tree
    variants and AlexNet's, which the paper only plots (Figs. 5 and 2). `top1_deviation` is the standard deviation over
    five initialisations, Fig. 5's error bar. What is shown from here and not from the paper's tables has to say so.
    """
    return {(row["arch"], row["model"]): row for row in _read("author_figures.csv")}


def top1(arch: str, row: str) -> tuple[str | None, str | None]:
    """The top-1 accuracy that is reported for a row, and where: the paper's table, else the author's data."""
    cells = reported(arch).get(row)
    if cells:
        return cells.get("accuracy") or cells["top1"], architecture(arch).results
    digits = author_figures().get((arch, row), {}).get("top1")
    return (digits, AUTHOR) if digits else (None, None)


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
