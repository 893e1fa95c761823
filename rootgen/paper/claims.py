"""What the paper's text claims, judged: every percentage and figure beside what its tables print and what is found.

Found is, for costs, what the networks count; for accuracies and times the author's own digits behind the tables
(tables.author_figures), where there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from rootgen.paper.counts import counted, saved
from rootgen.paper.tables import Claim, author_figures, claims, reported

COUNTS = ("convolutions", "spatial", "filters")


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of the text, what the paper's own table gives for it (None: it prints nothing), and what is found."""

    claim: Claim
    printed: float | None
    found: float | None

    @property
    def verdict(self) -> str:
        """confirmed: rounds to what is claimed; rounding: off by less than one unit of its last digit; else wrong.

        A claim that nothing here can judge is "open".
        """
        if self.found is None:
            return "open"
        claimed = float(self.claim.claimed)
        if self.claim.kind == "within":
            return "confirmed" if abs(self.found) <= claimed else "wrong"
        places = -int(Decimal(self.claim.claimed).as_tuple().exponent)
        if round(self.found, places) == claimed:
            return "confirmed"
        return "rounding" if abs(self.found - claimed) < 10**-places else "wrong"


def judged() -> Iterator[JudgedClaim]:
    """Every claim of the paper's text, in its order."""
    for claim in claims():
        printed = _printed(claim)
        found = _found(claim)
        yield JudgedClaim(claim, printed, printed if found is None else found)


def _printed(claim: Claim) -> float | None:
    """The claim's figure by the cells that the paper prints."""
    cells = reported(claim.arch)
    if claim.row not in cells or claim.against not in cells or claim.quantity not in cells[claim.row]:
        return None
    return _compare(claim, *(float(cells[row][claim.quantity]) for row in (claim.row, claim.against)))


def _found(claim: Claim) -> float | None:
    """The claim's figure by counting, or by the author's digits."""
    if claim.kind == "count":
        counts = counted(claim.arch, claim.row)
        share = 100 * counts.spatial / counts.convolutions
        return share if claim.quantity == "spatial_share" else float(getattr(counts, claim.quantity))
    rows = (claim.row, claim.against)
    if claim.quantity in ("flops", "params"):
        found = [counted(claim.arch, row) for row in rows]
        return _compare(claim, *(float(one.macs if claim.quantity == "flops" else one.weights) for one in found))
    digits = [author_figures().get((claim.arch, row), {}).get(_column(claim.quantity), "") for row in rows]
    return _compare(claim, *map(float, digits)) if all(digits) else None


def _column(quantity: str) -> str:
    """The author's column for a quantity of the paper's tables."""
    return "top1" if quantity == "accuracy" else quantity


def _compare(claim: Claim, value: float, base: float) -> float:
    """`value` against `base` in the way that the claim speaks."""
    if claim.kind in ("more", "within"):
        return round(100 * (value - base), 6)  # of decimals: 0.1 is to be 0.1
    return 100 * value / base if claim.kind == "of" else saved(value, base)
