"""Minimum cuts of many small grids at once, by dynamic programming over bands of the grid.

A grid whose shorter axis has up to `BAND` cells is cut exactly: the program walks along the longer axis and keeps the
best cost of every one of the 2^BAND labellings of the line that it stands on. A wider grid starts from the cut of a
grid half as fine, enlarged, and is then improved band by band, each one cut exactly while the rest stands still; the
cost never rises. The number of steps depends on the shape alone, so that nothing waits for the device, where
push-relabel needs a number of rounds that depends on the numbers and has to be fixed at its worst case.

Inside this module a grid lies rows last: (length, width, n), for the steps of the program then read whole vectors.
"""

import torch
from torch import Tensor

BAND = 8
"""Cells across the widest band that is cut exactly; time and memory grow as 2^BAND."""


def min_cut(unary: Tensor, freq_edges: Tensor, time_edges: Tensor) -> Tensor:
    """Label the cells of n grids with 0 or 1 at the smallest cost.

    The cost of labels x is sum_i unary_i x_i + sum_ij edges_ij |x_i - x_j|, the second sum over neighbours along either
    axis. Exact where one axis has at most `BAND` cells. Else nearly so: `benchmarks.solver_quality` says how nearly for
    Puzzle Mix; it is furthest off, by some per cent, where edges and cells weigh alike and most costs cancel.

    Args:
        unary: (n, nf, nt) float, what label 1 costs more than label 0; of any sign.
        freq_edges: (n, nf - 1, nt) float, what neighbours along frequency pay if their labels differ.
        time_edges: (n, nf, nt - 1) float, the same for neighbours along time.

    Returns:
        (n, nf, nt) bool, the labels. Among labels of equal cost any may come back. A problem that holds NaN gets some
        labels, and harms no other problem.

    Raises:
        ValueError: The shapes do not fit.
    """
    rows, freq, time = unary.shape
    if freq_edges.shape != (rows, freq - 1, time) or time_edges.shape != (rows, freq, time - 1):
        raise ValueError(
            f"a grid of shape {tuple(unary.shape)} needs edges {(rows, freq - 1, time)} and {(rows, freq, time - 1)}, "
            f"got {tuple(freq_edges.shape)} and {tuple(time_edges.shape)}"
        )
    last = [x.float().permute(1, 2, 0).contiguous() for x in (unary, freq_edges, time_edges)]
    return _cut(*last).permute(2, 0, 1) > 0.5


def _cut(unary: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Labels as float, (length, width, n), of a grid with edges (length - 1, width, n) and (length, width - 1, n)."""
    length, width = unary.shape[:2]
    if width > length:
        return _cut(*(x.transpose(0, 1) for x in (unary, across, along))).transpose(0, 1)
    if width <= BAND:
        return _cut_band(unary, along, across)
    coarse = _cut(*_halve(unary, along, across))
    labels = coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)[:length, :width].contiguous()
    _improve(labels, unary, along, across)
    _improve(*(x.transpose(0, 1) for x in (labels, unary, across, along)))
    return labels


def _halve(unary: Tensor, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The grid whose cells are two by two cells of this one, which must agree."""
    length, width, rows = unary.shape
    half = ((length + 1) // 2, (width + 1) // 2)
    cells = unary.new_zeros(2 * half[0], 2 * half[1], rows)
    cells[:length, :width] = unary
    down = unary.new_zeros(half[0] - 1, 2 * half[1], rows)
    down[:, :width] = along[1::2]
    right = unary.new_zeros(2 * half[0], half[1] - 1, rows)
    right[:length] = across[:, 1::2]
    return (
        cells.view(half[0], 2, half[1], 2, rows).sum((1, 3)),
        down.view(half[0] - 1, half[1], 2, rows).sum(2),
        right.view(half[0], 2, half[1] - 1, rows).sum(1),
    )


def _improve(labels: Tensor, unary: Tensor, along: Tensor, across: Tensor) -> None:
    """Cut every band of BAND columns exactly, in place, given the labels outside it; bands overlap by half."""
    width = unary.shape[1]
    for start in [*range(0, width - BAND, BAND // 2), width - BAND]:
        end = start + BAND
        band = unary[:, start:end].clone()
        if start > 0:
            band[:, 0] += across[:, start - 1] * (1 - 2 * labels[:, start - 1])
        if end < width:
            band[:, -1] += across[:, end - 1] * (1 - 2 * labels[:, end])
        labels[:, start:end] = _cut_band(band, along[:, start:end], across[:, start : end - 1])


def _cut_band(unary: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """An exact minimum cut, (length, width, n) float, of a band of at most BAND columns."""
    best = _line_costs(unary, across)
    for step in range(1, len(best)):
        best[step] += _spread(best[step - 1], along[step - 1])
    return _read_back(best, along)


def _line_costs(unary: Tensor, across: Tensor) -> Tensor:
    """What each labelling of each line costs by itself, (length, 2^width, n); bit p is the label of column p."""
    length, width, rows = unary.shape
    costs = unary.new_empty(length, 2**width, rows)
    costs[:, 0] = 0
    for column in range(width):
        size = 2**column
        low, high = costs[:, :size], costs[:, size : 2 * size]
        torch.add(low, unary[:, column, None], out=high)
        if column > 0:
            edge = across[:, column - 1, None]
            low[:, size // 2 :] += edge
            high[:, : size // 2] += edge
    return costs


def _spread(best: Tensor, edge: Tensor) -> Tensor:
    """The cheapest way to each labelling of a line, (2^width, n), from the best costs of the line before it.

    Columns are settled one after another: a labelling is reached from itself, or from the one that differs in that
    column at the price of the column's edge, (width, n).
    """
    states, rows = best.shape
    reached = torch.empty_like(best)
    paid = best.new_empty(states // 2, rows)
    for column in range(len(edge)):
        shape = (states >> (column + 1), 2, 2**column, rows)
        zero, one = (reached if column else best).view(shape).unbind(1)
        to_zero, to_one = reached.view(shape).unbind(1)
        other = paid.view(zero.shape)
        torch.minimum(zero, torch.add(one, edge[column], out=other), out=to_zero)
        torch.minimum(one, torch.add(to_zero, edge[column], out=other), out=to_one)  # a second payment never wins
    return reached


def _read_back(best: Tensor, along: Tensor) -> Tensor:
    """The labels of the cheapest labelling, (length, width, n) float, from the last line to the first."""
    length, states, rows = best.shape
    width = states.bit_length() - 1
    number = torch.arange(states, device=best.device)
    bits = (number >> torch.arange(width, device=best.device).unsqueeze(1)) & 1
    number, bits = number.to(best).unsqueeze(1), bits.to(best)
    labels = best.new_empty(length, width, rows)
    change, total, chosen = best.new_zeros(3, states, rows)  # change[0] stays: what all labellings share is left out
    for step in reversed(range(length)):
        if step == length - 1:
            total.copy_(best[step])
        else:
            price = along[step] * (1 - 2 * labels[step + 1])
            for column in range(width):
                size = 2**column
                torch.add(change[:size], price[column], out=change[size : 2 * size])
            torch.add(best[step], change, out=total)
        # The place of the minimum, several times faster on CPU than argmin over a first axis.
        torch.eq(total, total.amin(0), out=chosen)
        state = chosen.mul_(number).amax(0)
        torch.index_select(bits, 1, state.long(), out=labels[step])
    return labels
