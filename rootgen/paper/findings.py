"""The measured rows of one experiment beside the paper's: accuracies, costs and scores as tables, and in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from statistics import fmean, stdev

from rootgen.generator.architectures import ORIGINAL_ROW, Arch, recipe
from rootgen.paper import results, tables
from rootgen.paper.results import Replicates
from rootgen.paper.statistics import LEAST_RANKED, LEVEL, MOST_EXACT, rank_agreement, welch
from rootgen.text import Table

_SCORES = {  # columns of results.csv, as headings and in a sentence
    "block_score": ("block score", "inside the group blocks as outside"),
    "untrained_score": ("untrained", "in the same nets untrained"),
    "control_score": ("Orig.'s by the same groups", "in Orig. by the same groups"),
}


@dataclass(frozen=True)
class Findings:
    """One row or more; `arch` is None where the paper has none of that name."""

    arch: Arch | None
    rows: Sequence[Replicates]

    @cached_property
    def base(self) -> Replicates | None:
        """The original network's row."""
        return results.original(self.rows)

    @cached_property
    def variants(self) -> list[Replicates]:
        """The other rows."""
        return [row for row in self.rows if row is not self.base]

    @cached_property
    def p_values(self) -> dict[str, float]:
        """Welch's p of each variant against Orig., nan where there is no telling."""
        return {} if self.base is None else {row.model: welch(row, self.base) for row in self.variants}

    def paper(self, row: str) -> tuple[str | None, str | None]:
        """The accuracy that is reported for a row, and where."""
        return tables.top1(self.arch.name, row) if self.arch else (None, None)

    def accuracies(self) -> Table:
        """The paper's accuracies beside the measured ones, with what tells a difference from chance."""
        header = [
            "row",
            "paper",
            "less Orig.",
            "measured",
            "std. dev.",
            "n",
            "less Orig.",
            "within spread",
            "Welch's p",
        ]
        original, _ = self.paper(ORIGINAL_ROW)
        lines = []
        for row in self.rows:
            cell, _ = self.paper(row.model)
            less = f"{float(cell) - float(original):+.4f}" if cell and original and row is not self.base else "-"
            paper = (f"{cell or '-'}{'*' * self._is_authors(row.model)}", less)
            measured = (f"{row.accuracy:.4f}", _number(row.deviation, ".4f"), len(row.runs))
            lines.append((row.model, *paper, *measured, *self._difference(row)))
        return Table(header, lines, "top-1 accuracy")

    def _difference(self, row: Replicates) -> tuple[str, str, str]:
        """What is measured less Orig.'s, whether that is within the spread, and p that it is chance."""
        if self.base is None or row is self.base:
            return "-", "-", "-"
        difference, within = results.difference(row, self.base)
        word = "-" if within is None else "yes" if within else "no"
        return f"{difference:+.4f}", word, _number(self.p_values[row.model], ".2g")

    def images(self) -> str:
        """Which images the paper's accuracies and the measured ones are of."""
        first = self.rows[0].runs[0]
        here = f"measured on {first.images} test images of {first.dataset} after {first.epochs:.3g} epochs"
        if self.arch is None:
            return f"The accuracies are {here}."
        theirs = recipe(self.arch.recipe).images
        alike = first.dataset.replace("-", "").lower() == theirs.replace("-", "").lower()
        other = "" if alike else ": other images, so that differences and order compare, and not accuracies themselves"
        table = self.arch.results or self.arch.table
        return f"The paper's accuracies ({table}) are on {theirs}; here they were {here}{other}."

    def notes(self) -> list[str]:
        """What the columns of the accuracies mean."""
        said = []
        if any(len(row.runs) > 1 for row in self.rows):
            said.append(
                "Standard deviation over n seeds, of weights and order alike. A difference is within the spread where "
                "it is no more than the larger of the two standard deviations."
            )
        count = sum(not math.isnan(p) for p in self.p_values.values())
        if count:
            said.append("p: Welch's t-test, two-sided, of a row's accuracies against those of Orig.")
        if count > 1:
            holm = f"Holm's method asks the smallest for less than {LEVEL / count:.2g}"
            said[-1] += f" It is not corrected for {count} comparisons: {holm}."
        arch = self.arch.name if self.arch else ""
        spread = tables.author_figures().get((arch, ORIGINAL_ROW), {}).get("top1_deviation")
        if spread:
            initialisations = "one standard deviation over five initialisations"
            said.append(f"The paper's Orig. varies by {spread}, {initialisations}: {tables.AUTHOR}.")
        if any(self._is_authors(row.model) for row in self.rows):
            said.append(f"*: {tables.AUTHOR}.")
        return said

    def costs(self) -> Table:
        """Parameters, multiply-adds and times, as they are and as shares of Orig.'s."""
        base = self.base or self.rows[0]
        first = base.runs[0]
        reported = {row.model: self._times(row.model) for row in self.rows}
        timed = [column for column in tables.TIMES if reported[base.model].get(column)]
        lines = []
        for row in self.rows:
            one, cells = row.runs[0], reported[row.model]
            shares = [
                _number(float(cells[column]) / float(reported[base.model][column]), ".1%") if cells.get(column) else "-"
                for column in timed
            ]
            lines.append(
                (
                    *(row.model, f"{one.params:,}", f"{one.params / first.params:.1%}"),
                    *(f"{one.macs / 1e6:,.1f}M", f"{one.macs / first.macs:.1%}"),
                    *(_number(row.time_ms, ".3g"), _number(row.time_ms / first.time_ms, ".1%")),
                    *(share + "*" * (share != "-" and self._is_authors(row.model)) for share in shares),
                )
            )
        header = ["row", "parameters", "share", "multiply-adds", "share", "ms per image", "share"]
        header += [f"paper's {tables.TIMES[column].split()[0]} share" for column in timed]
        return Table(header, lines, f"forward, by {first.engine} on {first.device}; shares of {base.model}")

    def _times(self, row: str) -> dict[str, str]:
        """The reported times of a row: the paper's table's, else the author's data's."""
        name = self.arch.name if self.arch else ""
        return (tables.reported(name).get(row) if name else None) or tables.author_figures().get((name, row), {})

    def _is_authors(self, row: str) -> bool:
        """Whether what is reported of a row is in no table of the paper."""
        return self.paper(row)[1] == tables.AUTHOR

    def scores(self) -> Table | None:
        """What the correlation shows of the groups, and its controls; None where it was not measured."""
        columns = _score_columns()
        shown = [row for row in self.rows if any(not math.isnan(row.mean(name)) for name in columns)]
        if not shown:
            return None
        lines = [(row.model, *(_spread([getattr(run, name) for run in row.runs]) for name in columns)) for row in shown]
        header = ["row", *(_SCORES[name][0] for name in columns)]
        return Table(header, lines, "mean inside the group blocks over the mean outside, test images")

    def answers(self) -> list[str]:
        """What came out, a sentence a question."""
        if self.base is None or not self.variants:
            return []
        return [self._kept(self.base), self._saved(self.base), *self._ranked(), *self._grouped()]

    def _kept(self, base: Replicates) -> str:
        within = {row.model: results.difference(row, base)[1] for row in self.variants}
        known = [model for model, word in within.items() if word is not None]
        if not known:
            return (
                f"Accuracy: {base.accuracy:.4f} of Orig., from {min(row.accuracy for row in self.variants):.4f} to "
                f"{max(row.accuracy for row in self.variants):.4f} of its variants. One run of each tells no spread: "
                "nothing here is known to be more than chance."
            )
        inside = [model for model in known if within[model]]
        kept = f"{len(inside)} of {len(known)} variants are within the spread of seeds of Orig.{_named(inside)}"
        tested = [model for model, p in self.p_values.items() if not math.isnan(p)]
        apart = [model for model in tested if self.p_values[model] < LEVEL]
        told = f"Welch's t-test at {LEVEL:.0%} tells {len(apart) or 'none'} apart from it{_named(apart)}"
        return f"Accuracy: {kept}{f'; {told}' if tested else ''}."

    def _saved(self, base: Replicates) -> str:
        least = min(self.variants, key=lambda row: row.runs[0].macs)
        first, last = base.runs[0], least.runs[0]
        pace = least.time_ms / base.time_ms
        time = "" if math.isnan(pace) else f" and {pace:.0%} of the forward time"
        params, macs = last.params / first.params, last.macs / first.macs
        return f"Cost: {least.model} has {params:.0%} of the parameters, {macs:.0%} of the multiply-adds{time} of Orig."

    def _ranked(self) -> list[str]:
        """How far the rows rank as those of the paper do."""
        paper = {row.model: float(cell) for row in self.rows if (cell := self.paper(row.model)[0])}
        agreement = rank_agreement(paper, {row.model: row.accuracy for row in self.rows})
        if agreement is None:
            few = f"Order: {len(paper)} rows are too few to rank: {LEAST_RANKED} or more are."
            return [few] if self.arch and len(paper) < LEAST_RANKED else []
        how = "all their orders" if agreement.n <= MOST_EXACT else "the t distribution"
        return [
            f"Order: Spearman's rank correlation of the measured accuracies with the paper's is {agreement.rho:+.2f}, "
            f"p = {agreement.p:.2g} (two-sided, by {how}), n = {agreement.n} rows."
        ]

    def _grouped(self) -> list[str]:
        """What the correlation shows of the groups."""
        means = {name: [row.mean(name) for row in self.rows] for name in _score_columns()}
        known = {name: found for name, values in means.items() if (found := [v for v in values if not math.isnan(v)])}
        if "block_score" not in known:
            return []
        own, *controls = (f"{_range(found)} times as much {_SCORES[name][1]}" for name, found in known.items())
        beside = "".join(f"; {control.replace(' as much', '')}" for control in controls)
        return [f"Groups: filters correlate {own}{beside}."]


def _score_columns() -> list[str]:
    """The scores that results have, the trained nets' own first."""
    there = {one.name for one in fields(results.RunResult)}
    return [name for name in _SCORES if name in there]


def _named(models: Sequence[str]) -> str:
    return f" ({', '.join(models)})" if models else ""


def _range(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values))))


def _spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and number of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return f"{known[0]:.2f}" if known else "-"
    return f"{fmean(known):.2f} ± {stdev(known):.2f} ({len(known)})"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
