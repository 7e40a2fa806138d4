"""What stands above the panels of a picture of mixes: names, shares, and what was not mixed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

LONGEST_NAME, LONGEST_TITLE = 22, 38  # letters that fit above a panel


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


def share_text(names: Sequence[str], sources: Sequence[int] | Tensor, share: Sequence[float] | Tensor) -> str:
    """A share in words, such as "72 % yes + 28 % no" or "yes paired with itself"; percents add up to 100.

    Args:
        names: one name for each row of the batch.
        sources: (K,) rows mixed, the row itself first.
        share: (K,) their shares.
    """
    if is_paired_with_itself(sources, share):
        return f"{names[int(sources[0])]} paired with itself"
    percent = [round(100 * float(s)) for s in share[1:]]
    percent = [100 - sum(percent), *percent]
    parts = [(p, names[int(s)]) for p, s in zip(percent, sources, strict=True) if p > 0]
    return " + ".join(f"{p} % {name}" for p, name in parts)


def is_left_alone(share: Sequence[float] | Tensor) -> bool:
    """Whether shares (K,) give a row nothing but itself."""
    return float(share[0]) == 1.0


def is_paired_with_itself(sources: Sequence[int] | Tensor, share: Sequence[float] | Tensor) -> bool:
    """Whether a row was mixed, but with no other row: all its sources are one."""
    return not is_left_alone(share) and len({int(source) for source in sources}) == 1


def titles(
    names: Sequence[str], sources: Tensor, share: Tensor, partner: int, method: str, changed: bool, cut: str
) -> tuple[str, str, str, str]:
    """What stands above the four panels of a row; a long share gets a line for each source.

    Args:
        names: one name for each row of the batch.
        sources: (K,) rows mixed, the row itself first.
        share: (K,) their shares.
        partner: the source that is shown as the partner.
        method: the method's name.
        changed: whether the result differs from the row: ResizeMix changes even a row paired with itself.
        cut: how much of the partner is shown, in words; empty where all of it is.
    """
    own, alone = int(sources[0]), is_left_alone(share)
    if alone and changed and partner == own:  # cut out of: the row has no partner, and yet it is not what it was
        return f"own: {names[own]}", "no partner", f"{method}: weight of own", f"cut: {names[own]}"
    if alone:
        return f"own: {names[own]}", "no partner", "not mixed", f"not mixed: {names[own]}"
    weights = f"{method}: weight of own" if changed else "not mixed"
    text = share_text(names, sources, share)
    if is_paired_with_itself(sources, share):
        return f"own: {names[own]}", "partner: itself", weights, _folded(text, " paired")
    beside = _folded(f"partner: {names[partner]}{cut}", " (")
    return f"own: {names[own]}", beside, weights, _folded(f"mixed: {text}", " + ")


def _folded(text: str, before: str) -> str:
    """A text that is too long for one line goes on in a second one."""
    return text.replace(before, f"\n{before.lstrip()}") if len(text) > LONGEST_TITLE else text
