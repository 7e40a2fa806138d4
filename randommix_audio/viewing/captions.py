"""What stands above the panels of a picture of mixes: names, shares, and what was not mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

LONGEST_NAME, LONGEST_TITLE = 22, 38  # letters that fit above a panel
FOLLOW_SALIENCY = ("saliencymix", "puzzlemix", "comixup")
FOR_HIDDEN_LAYERS = ("manifoldmix", "patchup")


@dataclass(frozen=True)
class MixedRow:
    """What a plan makes of one row, as far as captions say it.

    Attributes:
        own: the row.
        shares: how much of the result comes from each row, the row itself first; others only where above 0.
        method: the method's name.
        alone: whether the plan gives the row nothing but itself.
        changed: whether the result differs from the row.
        filled: whether a part of the result comes from no row at all, as after Cutout.
        moved: whether blocks were moved, as by Puzzle Mix.
        outlined: whether what is salient is outlined in the clips.
    """

    own: int
    shares: Mapping[int, float]
    method: str
    alone: bool
    changed: bool
    filled: bool = False
    moved: bool = False
    outlined: bool = False

    @property
    def partners(self) -> list[int]:
        """The other rows in the result, those with the largest share first."""
        others = {row: share for row, share in self.shares.items() if row != self.own}
        return sorted(others, key=lambda row: -others[row])


def names_above_panels(names: Sequence[str] | None, count: int) -> list[str]:
    """One short name for each of `count` rows; without names the rows are numbered.

    Raises:
        ValueError: there are more or fewer names than rows.
    """
    if names is None:
        return [f"row {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names for a batch of {count}")
    return [shortened(str(name)) for name in names]


def shortened(name: str) -> str:
    """A name that fits above a panel: where it is too long it loses its folders first, then its end."""
    if len(name) > LONGEST_NAME:
        name = name.rstrip("/").rsplit("/", 1)[-1] or name
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def shares_of_rows(sources: Sequence[int] | Tensor, share: Sequence[float] | Tensor) -> dict[int, float]:
    """The share of each row that a mix consists of; the row itself first, others only where above 0.

    Args:
        sources: (K,) rows mixed, the row itself first; some may be the same.
        share: (K,) their shares.
    """
    total = {int(sources[0]): float(share[0])}
    for source, part in zip(sources[1:], share[1:], strict=True):
        if float(part) > 0:
            total[int(source)] = total.get(int(source), 0.0) + float(part)
    return total


def share_text(names: Sequence[str], sources: Sequence[int] | Tensor, share: Sequence[float] | Tensor) -> str:
    """A share in words, such as "72 % yes + 28 % no" or "yes paired with itself"; percents add up to 100.

    Args:
        names: one name for each row of the batch.
        sources: (K,) rows mixed, the row itself first.
        share: (K,) their shares.
    """
    shares = shares_of_rows(sources, share)
    if len(shares) == 1 and not is_left_alone(share):
        return f"{names[int(sources[0])]} paired with itself"
    return _percents(names, shares)


def is_left_alone(share: Sequence[float] | Tensor) -> bool:
    """Whether shares (K,) give a row nothing but itself."""
    return float(share[0]) == 1.0


def titles(names: Sequence[str], row: MixedRow, cut: str = "") -> tuple[str, str, str, str]:
    """What stands above the four panels of a row; what is too long for one line goes on in the next.

    Args:
        names: one name for each row of the batch.
        row: what the plan makes of the row.
        cut: how much of the partner is shown, such as "first 1 s of 2 s"; empty where all of it is.
    """
    outlined = "\n(most salient tenth outlined)" if row.outlined else ""
    weights = f"{row.method}: weight of own" if row.changed else "not mixed"
    if row.changed and row.method in FOR_HIDDEN_LAYERS:
        weights += "\n(on the clip; meant for hidden layers)"
    partner = _partner_title(names, row, cut) + outlined
    return f"own: {names[row.own]}{outlined}", partner, weights, _result_title(names, row)


def _partner_title(names: Sequence[str], row: MixedRow, cut: str) -> str:
    if not row.partners:
        return "no partner" if row.alone else "partner: itself"
    shown, *others = (names[partner] for partner in row.partners)
    if others:
        details = f"shown, {cut}" if cut else "shown"
        return _folded(" + ".join([f"partners: {shown} ({details})", *others]), " + ")
    return _folded(f"partner: {shown} ({cut})" if cut else f"partner: {shown}", " (")


def _result_title(names: Sequence[str], row: MixedRow) -> str:
    if row.alone:
        what = "cut" if row.filled else "changed" if row.changed else "not mixed"
        return f"{what}: {names[row.own]}"
    if not row.partners:
        return _folded(f"{names[row.own]} paired with itself", " paired")
    what = "mixed and moved" if row.moved else "mixed"
    return _folded(f"{what}: {_percents(names, row.shares)}", " + ")


def _percents(names: Sequence[str], shares: Mapping[int, float]) -> str:
    """Shares as whole percents that add up to 100, those of 0 left out."""
    exact = [100 * share for share in shares.values()]
    percents = [int(value) for value in exact]
    # What rounding down leaves goes to those that lost most, so that a row without a share never gets one.
    losses = sorted(range(len(exact)), key=lambda i: percents[i] - exact[i])
    for i in losses[: 100 - sum(percents)]:
        percents[i] += 1
    return " + ".join(f"{p} % {names[row]}" for p, row in zip(percents, shares, strict=True) if p > 0)


def _folded(text: str, before: str) -> str:
    """A text that is too long for one line goes on in the next; lines begin with `before`."""
    first, *rest = text.split(before)
    lines = [first]
    for part in rest:
        if len(lines[-1]) + len(before) + len(part) > LONGEST_TITLE:
            lines.append(before.lstrip() + part)
        else:
            lines[-1] += before + part
    return "\n".join(lines)
