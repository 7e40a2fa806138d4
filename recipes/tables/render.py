"""A table as Markdown in the paper's layout with the paper's numbers beside, as CSV, and as a picture."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recipes.tables.claims import groups, interval, paragraph
from recipes.tables.collect import Collected
from recipes.tables.facts import facts, stand_in
from recipes.tables.paper import MEANS, Column, Row, Table
from recipes.tables.plan import Plan
from recipes.tables.statistics import Cell, Difference, average, difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR, GREY = "#0072B2", "#777777"


@dataclass(frozen=True)
class Rendering:
    """A table and what was found for it.

    Args:
        plan: what was to be run.
        found: what was found.
        about: the circumstances that the options tell, such as the budget's name; see `facts`.
    """

    plan: Plan
    found: Collected
    about: dict[str, Any]

    @property
    def table(self) -> Table:
        """The table."""
        return self.plan.table

    def cell(self, row: Row, number: int) -> Cell:
        """What was found."""
        return self.found.cells[row.key, number]

    @property
    def reference(self) -> Row:
        """The row that the others are compared with."""
        return next(row for row in self.table.rows if row.key == self.table.reference)

    def difference(self, row: Row, number: int) -> Difference | None:
        """To the reference; None for the reference itself, for costs, and where either is missing."""
        if row.key == self.reference.key or self.table.columns[number].score == "cost":
            return None
        return difference([self.cell(row, number)], [self.cell(self.reference, number)])

    def paper_difference(self, row: Row, number: int) -> float | None:
        """The paper's, to its own reference."""
        printed, reference = row.paper[number], self.reference.paper[number]
        if row.quoted or row is self.reference or self.table.columns[number].score == "cost":
            return None
        return None if printed is None or reference is None else printed - reference

    def markdown(self) -> str:
        """Caption, table, what the numbers mean, what the data say, circumstances."""
        table = self.table
        gaps = [self.difference(row, i) for row in table.rows for i in range(len(table.columns))]
        how = sorted({gap.how for gap in gaps if gap is not None and gap.how})
        base = f"{self.reference.label} {self.reference.second}".strip(" -")
        paper = f" The paper's numbers are of {table.paper_about}." if table.paper_about else ""
        seeds = {gap.pairs for gap in gaps if gap is not None}
        one = " With one seed that says nothing of how much one training differs from the next." if seeds == {1} else ""
        others = [stand_in(self.plan, setting) for setting in dict.fromkeys(column.setting for column in table.columns)]
        marks = "" if not any(others) else f"† stands in: {'; '.join(dict.fromkeys(filter(None, others)))}.\n\n"
        notes = [
            f"{marks}± standard deviation over seeds. In parentheses the difference to {base} in points, in brackets "
            f"its 95 % interval{' by ' if how else ''}{', or by '.join(how)}; an interval over zero is not decided."
            f"{one}{paper}",
            paragraph(table, self.found.cells),
            "\n".join(f"- {line}" for line in facts(self.plan, self.found, self.about)),
        ]
        return "\n\n".join([f"## Table {table.number}. {table.title}", self._lines(), *notes]) + "\n"

    def title(self, column: Column) -> str:
        """As printed, with a mark where something stands in for the paper's network or corpus."""
        return column.title + (" †" if stand_in(self.plan, column.setting) else "")

    def _lines(self) -> str:
        table = self.table
        heads = [*table.heads]
        for column in table.columns:
            heads += [self.title(column), "paper"]
        if table.number == 6:
            heads += ["Mean (%)", "paper"]
        means = self._means()
        lines = [heads, ["---"] * len(heads)]
        for row in table.rows:
            cells = [row.label, row.second][: len(table.heads)]
            for number, column in enumerate(table.columns):
                cells += [self._own(row, number, column), self._paper(row, number)]
            if table.number == 6:
                cells += means.get(row.key, ["", ""])
            lines.append(cells)
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def _own(self, row: Row, number: int, column: Column) -> str:
        cell = self.cell(row, number)
        if not cell.values:
            return "-"
        said = f"{cell.mean:.2f}" + ("" if cell.spread is None else f" ± {cell.spread:.2f}")
        gap = self.difference(row, number)
        return said if gap is None else f"{said} ({interval(gap)})"

    def _paper(self, row: Row, number: int) -> str:
        if not row.in_paper:
            return "not in the paper"
        printed, gap = row.paper[number], self.paper_difference(row, number)
        return "-" if printed is None else f"{printed:.2f}" + ("" if gap is None else f" ({gap:+.2f})")

    def _means(self) -> dict[str, list[str]]:
        """The last columns of table 6, in the first row of each size."""
        found = {}
        for size, rows in groups(self.table).items() if self.table.number == 6 else ():
            cells = [self.cell(row, 0) for row in rows]
            mean = average(cells).mean if all(cell.values for cell in cells) else math.nan
            found[rows[0].key] = ["-" if math.isnan(mean) else f"{mean:.2f}", f"{MEANS[size]:.2f}"]
        return found

    def csv(self) -> str:
        """A line for each cell."""
        names = (
            *("table", "corpus", "row", "second", "column", "stand_in", "score", "seeds", "mean", "sd"),
            *("difference", "low", "high", "pairs", "interval_by", "decided", "paper", "paper_difference"),
        )
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for row in self.table.rows:
            for i, column in enumerate(self.table.columns):
                cell, gap = self.cell(row, i), self.difference(row, i)
                ends = [""] * 6
                if gap is not None:
                    ends = [_number(gap.mean), _number(gap.low), _number(gap.high)]
                    ends += [str(gap.pairs), gap.how, str(gap.decided).lower()]
                own = [" ".join(map(str, cell.values)), _number(cell.mean), _number(cell.spread)]
                paper = [_number(row.paper[i]), _number(self.paper_difference(row, i))]
                first = [self.table.number, self.table.corpus, row.label, row.second, column.title]
                first += [stand_in(self.plan, column.setting), column.score]
                writer.writerow([*first, *own, *ends, *paper])
        return out.getvalue()

    def picture(self) -> Figure:
        """Differences to the reference with their intervals, a panel for each column; hollow are the paper's."""
        from randommix_audio.viewing.figure import blank

        columns = [i for i, column in enumerate(self.table.columns) if column.score != "cost"]
        rows = [row for row in self.table.rows if row is not self.reference and not row.quoted]
        width = 2.4 + 2.7 * len(columns)
        paper = "the paper's" + (f" ({self.table.paper_about})" if self.table.paper_about else "")
        title = (
            f"Table {self.table.number}, {self.table.corpus}: measured with 95 % interval (dots; dotted: of one seed), "
            f"{paper} (diamonds)"
        )
        title = textwrap.fill(title, round(11 * width))  # characters of this size an inch
        figure = blank(width, 1.4 + 0.3 * len(rows) + 0.15 * title.count("\n"))
        for place, number in enumerate(columns):
            axes = figure.add_subplot(1, len(columns), place + 1)
            for y, row in enumerate(rows):
                if gap := self.difference(row, number):
                    ends = [gap.mean if end is None else end for end in (gap.low, gap.high)]
                    axes.plot(ends, [y, y], color=COLOUR, lw=2, ls="-" if gap.pairs > 1 else ":")
                    axes.plot([gap.mean], [y], "o", color=COLOUR, ms=5)
                if (printed := self.paper_difference(row, number)) is not None:
                    axes.plot([printed], [y], "D", color=GREY, ms=5, mfc="none")
            axes.axvline(0, color="#333333", lw=0.8)
            axes.set_yticks(
                range(len(rows)), [f"{row.label} {row.second}".strip() if place == 0 else "" for row in rows]
            )
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_title(self.title(self.table.columns[number]), fontsize=10)
            axes.set_xlabel(f"points above {self.reference.label} {self.reference.second}".rstrip(" -"), fontsize=8)
            axes.tick_params(labelsize=8)
        figure.suptitle(title, fontsize=10)
        return figure


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"
