"""What the measured numbers say about the paper's claims: one paragraph below each table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recipes.tables.paper import LINEAR, Column, Row, Table
from recipes.tables.statistics import Cell, Difference, average, difference

Cells = dict[tuple[str, int], Cell]


def interval(found: Difference | None) -> str:
    """A difference in points with its interval; one that holds zero, or that there is none of, is not decided.

    >>> interval(Difference(1.5, 0.5, 2.5, 3, "Student's t over seeds"))
    '+1.50 [+0.50, +2.50]'
    >>> interval(Difference(1.5, 0.5, 2.5, 1, "paired bootstrap over the test rows of one seed"))
    '+1.50 [+0.50, +2.50], one seed'
    """
    if found is None:
        return "not measured"
    ends = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{ends}" + ("" if found.decided else ", one seed" if found.pairs == 1 else ", not decided")


def paragraph(table: Table, cells: Cells) -> str:
    """What the data say about the claims that the paper draws from a table."""
    tell = {4: _modes, 5: _weights, 6: _diversity}.get(table.number, _best)
    return tell(table, cells)


def judged(differences: Sequence[Difference | None], lower_is_better: bool) -> str:
    """Whether all of some differences are decided the way that the paper says."""
    if not differences or any(one is None for one in differences):
        return "not all of it was measured"
    known = [one for one in differences if one is not None]
    sign = -1 if lower_is_better else 1
    if any(one.decided and sign * one.mean < 0 for one in known):
        return "the data speak against it"
    if all(one.decided for one in known):
        return "the data agree"
    if any(one.pairs == 1 for one in known):
        like = sum(sign * one.mean > 0 for one in known)
        return f"not decided by one seed ({like} of {len(known)} differences have the paper's sign)"
    return "not decided"


def _versus(rows: Sequence[Row], get: Callable[[Row], list[Cell]], own: Row) -> tuple[str, list[Difference | None]]:
    found = {row.label: difference(get(own), get(row)) for row in rows}
    return "; ".join(f"minus {label} {interval(one)}" for label, one in found.items()), list(found.values())


def _best(table: Table, cells: Cells) -> str:
    """Tables 1 to 3: RandomMix is better than every other method that the paper trained."""
    own = next(row for row in table.rows if row.mixer == "randommix")
    others = [row for row in table.rows if row is not own and not row.quoted]
    sentences = []
    for i, column in enumerate(table.columns):
        if column.score == "cost":
            continue

        def get(row: Row, i: int = i) -> list[Cell]:
            return [cells[row.key, i]]

        said, found = _versus(others, get, own)
        sentences.append(
            f"{_short(column)}, RandomMix is better than every other method: {judged(found, False)} ({said})."
        )
    return "The paper's claim. " + " ".join(sentences)


def _short(column: Column) -> str:
    return column.title.removesuffix(" (%)")


def _modes(table: Table, cells: Cells) -> str:
    """Table 4: linear and mask together are better than either alone where both noise and occlusion count."""
    places = {column.score: i for i, column in enumerate(table.columns)}
    noise = "noise" if table.corpus == "speech" else "corruption"
    both = [places["corruption"], places["occlusion"]]
    own = next(row for row in table.rows if row.second == "L+M")
    single = [row for row in table.rows if row.second in ("L", "M")]
    said, found = _versus(single, lambda row: [cells[row.key, i] for i in both], own)
    text = (
        f"The paper says that linear and mask modes together are better than either alone. On the mean of {noise} and "
        f"occlusion error: {judged(found, True)}. RandomMix {said}."
    )
    arrows = _arrows(table, cells)
    return f"{text} {arrows}" if arrows else text


def _arrows(table: Table, cells: Cells) -> str:
    """How many of the paper's arrows (error above or below the baseline's) point the same way here."""
    counts, signs = {"same": 0, "opposite": 0, "open": 0}, []
    base = next(row for row in table.rows if row.key == table.reference)
    for row in table.rows:
        for i, column in enumerate(table.columns):
            printed, reference = row.paper[i], base.paper[i]
            if row is base or column.score == "clean" or printed is None or reference is None:
                continue
            found = difference([cells[row.key, i]], [cells[base.key, i]])
            if found is not None:
                same = (found.mean > 0) == (printed > reference)
                signs += [same] if found.pairs == 1 else []
                counts["open" if not found.decided else "same" if same else "opposite"] += 1
    if not sum(counts.values()):
        return ""
    if signs:
        return (
            f"Of the paper's arrows against the baseline {sum(signs)} of {len(signs)} point the same way for this seed."
        )
    return (
        f"Of the paper's arrows against the baseline {counts['same']} point the same way here, "
        f"{counts['opposite']} the other way, {counts['open']} are not decided ({_by_chance(sum(counts.values()))})."
    )


def _by_chance(number: int) -> str:
    return f"if none of {number} differences were real, about {0.05 * number:.1f} would be decided by chance"


def _weights(table: Table, cells: Cells) -> str:
    """Table 5: the weights adjust robustness, without a linear relation."""
    base = next(row for row in table.rows if row.key == table.reference)
    found = {}
    for row in table.rows:
        for i, column in enumerate(table.columns):
            if row is base or column.score == "clean":
                continue
            if one := difference([cells[row.key, i]], [cells[base.key, i]]):
                found[f"{row.second} {_short(column)} {one.mean:+.2f}"] = one
    if not found:
        return f"Weights {base.second}, or what it is compared with, were not run."
    claim = (
        "The paper says that the weights adjust the robustness to noise and to occlusion, without a linear relation. "
    )
    if all(one.pairs == 1 for one in found.values()):
        return f"{claim}One seed decides none of the {len(found)} differences to {base.second}."
    decided = [name for name, one in found.items() if one.decided]
    listed = "" if not decided else f": {'; '.join(decided)}"
    return (
        f"{claim}Of {len(found)} differences to {base.second} {len(decided)} are decided{listed} "
        f"({_by_chance(len(found))})."
    )


def groups(table: Table) -> dict[int, list[Row]]:
    """The paper's rows of table 6 by the number of candidates; 0 is the baseline."""
    found: dict[int, list[Row]] = {}
    for row in table.rows:
        if row.in_paper:
            found.setdefault(len(row.candidates) if row.mixer != "none" else 0, []).append(row)
    return found


def _diversity(table: Table, cells: Cells) -> str:
    """Table 6: more candidates are better, and so are two modes among as many candidates."""
    whole = {size: rows for size, rows in groups(table).items() if all(cells[row.key, 0].values for row in rows)}
    means = {size: average([cells[row.key, 0] for row in rows]) for size, rows in whole.items()}
    steps = {
        f"{size} minus {size - 1}": difference([means[size]], [means[size - 1]])
        for size in (2, 3, 4)
        if size in means and size - 1 in means
    }
    more = list(steps.values()) if len(steps) == 3 else []
    text = "The paper says that more candidates are better: " + judged(more, False)
    text += "".join(f"; {name} {interval(one)}" for name, one in steps.items())
    text += ". And that of as many candidates linear and mask modes together are better than one mode"
    modes = {size: _both_against_one(rows, cells) for size, rows in whole.items() if size in (2, 3)}
    text += ": " + judged(list(modes.values()) if len(modes) == 2 else [], False)
    text += "".join(f"; of {size} candidates L+M minus M {interval(one)}" for size, one in modes.items())
    return text + ". Means over the paper's sets of each size, without [R, F]."


def _both_against_one(rows: Sequence[Row], cells: Cells) -> Difference | None:
    both = [cells[row.key, 0] for row in rows if set(row.candidates) & set(LINEAR)]
    mask = [cells[row.key, 0] for row in rows if not set(row.candidates) & set(LINEAR)]
    return difference([average(both)], [average(mask)])
