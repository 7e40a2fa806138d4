"""Losses, targets and accuracy of a mixed batch: what `MixPlan` offers under its own names, as functions of tensors.

B rows, K sources for each row, C classes. `sources`, (K, B) long, says which rows of the batch make up each mixed row;
`share`, (K, B) float32, how much of it each of them is.
"""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Criterion = Callable[..., Tensor]


def mixed_loss(
    sources: Tensor,
    share: Tensor,
    criterion: Criterion,
    prediction: Tensor,
    target: Tensor,
    reduction: str | None = None,
    **options: Any,
) -> Tensor:
    """Loss of a mixed batch: for each row the losses against its sources' targets, weighted by their shares.

    This is exact for any criterion (class weights, ignored targets, focal, margin losses), where mixing the targets
    themselves is exact only for losses linear in the target. The criterion is asked for per-row values: a function gets
    `reduction="none"`, a module with a `reduction` is copied and the copy set to "none".

    "mean" is the mean over rows of the share-weighted loss, a row's loss being the mean over its remaining axes. Where
    the targets are class indices and the criterion is `cross_entropy` or `nll_loss` (as function, module or
    functools.partial), it counts as in PyTorch: the sum of weighted losses over the sum of the class weights of the
    targets, ignored targets counting nothing; both sums are share-weighted, so that an unmixed batch gives exactly
    PyTorch's mean. Any other criterion gets the plain mean of its per-row values.

    Args:
        sources: (K, B).
        share: (K, B).
        criterion: Function or module of (prediction, target) that can give per-row values.
        prediction: (B, ...) model output for the mixed batch.
        target: (B, ...) targets of the batch before mixing.
        reduction: "mean", "sum" or "none" (per-row values, (B, ...)); None: what a module criterion was made with, if
            that is "mean" or "sum", else the mean.
        **options: Passed to a function criterion, as in `plan.loss(F.cross_entropy, z, y, label_smoothing=0.1)`.

    Raises:
        TypeError: If the criterion cannot be called, or prediction or target are no tensors.
        ValueError: If the criterion gives only a mean, the reduction is unknown or the target has another row count.
    """
    if not callable(criterion):
        raise TypeError(
            f"the criterion comes first: plan.loss(criterion, prediction, target); got {type(criterion).__name__}"
        )
    if isinstance(criterion, functools.partial):
        options = {**criterion.keywords, **options}
        criterion = criterion.func
    criterion = getattr(criterion, "_orig_mod", criterion)  # torch.compile wraps modules
    if reduction is None:
        own = getattr(criterion, "reduction", "mean")
        if own not in ("mean", "sum", "none"):
            raise ValueError(f'the criterion reduces by {own!r}; say reduction="mean", "sum" or "none" to plan.loss')
        reduction = "sum" if own == "sum" else "mean"
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    _check_rows(sources, target, "target")
    _check_rows(sources, prediction, "prediction")
    per_row = _per_row(criterion, options)
    losses, counts = [], []
    for source, source_share in zip(sources, share, strict=True):
        paired = target.index_select(0, source)
        values = per_row(prediction, paired)
        if values.ndim == 0 or values.shape[0] != source.shape[0]:
            raise ValueError(
                f"the criterion gave a result of shape {tuple(values.shape)} for {source.shape[0]} rows; a mixed loss "
                'needs one value for each row: pass a criterion that takes reduction="none" (or was made with it)'
            )
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        part = _column(source_share.to(values.dtype), values)
        losses.append(torch.where(part > 0, part * values, 0.0))  # an infinite loss of a share of 0 is no loss
        weight = _class_weight(criterion, options, paired)
        if weight is not None:
            counts.append(part * weight.to(values.dtype))
    total = torch.stack(losses).sum(0)
    if reduction == "none":
        return total
    if reduction == "sum":
        return total.sum()
    return total.sum() / torch.stack(counts).sum() if counts else total.mean()


def _per_row(criterion: Criterion, options: dict[str, Any]) -> Criterion:
    if isinstance(criterion, nn.Module):
        if options:
            raise ValueError(f"a module criterion takes no further options, got {', '.join(options)}")
        if hasattr(criterion, "reduction") and criterion.reduction != "none":
            criterion = copy.copy(criterion)
            criterion.reduction = "none"  # type: ignore[assignment]
        return criterion
    try:
        parameters = tuple(inspect.signature(criterion).parameters.values())
    except (TypeError, ValueError):  # built-in functions show no signature
        parameters = ()
    named = any(p.name == "reduction" or p.kind is p.VAR_KEYWORD for p in parameters)
    more = {"reduction": "none"} if named else {}
    return lambda prediction, target: criterion(prediction, target, **options, **more)


def _class_weight(criterion: Criterion, options: dict[str, Any], target: Tensor) -> Tensor | None:
    """What each target counts in PyTorch's mean; None where all count alike."""
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
        weight, ignored = criterion.weight, criterion.ignore_index
    elif criterion in (F.cross_entropy, F.nll_loss):
        weight, ignored = options.get("weight"), options.get("ignore_index", -100)
    else:
        return None
    if target.is_floating_point():
        return None
    kept = target != ignored
    return kept.float() if weight is None else weight[torch.where(kept, target, 0)] * kept


def mix_targets(
    sources: Tensor, share: Tensor, target: Tensor, num_classes: int | None = None, kind: str = "soft"
) -> Tensor:
    """One target for each mixed row.

    Args:
        sources: (K, B).
        share: (K, B).
        target: (B,) class indices from 0, which need `num_classes`; or (B, ...) floating-point or bool, soft or
            multi-hot. Ignored indices such as -100 have no soft target: use `mixed_loss`.
        num_classes: The number of classes C.
        kind: "soft" weighs the sources by their shares; "union" takes the maximum over sources with a share above 0
            (multi-label: everything that can be heard counts whole).

    Returns:
        (B, C) float32 for class indices, else the shape and dtype of `target`.

    Raises:
        ValueError: If indices come without `num_classes`, the kind is unknown or the row count differs.
    """
    if kind not in ("soft", "union"):
        raise ValueError(f'kind must be "soft" or "union", got {kind!r}')
    _check_rows(sources, target, "target")
    values = _as_scores(target, num_classes, classes_last=True)
    total = torch.zeros_like(values)
    for source, source_share in zip(sources, share, strict=True):
        paired = values.index_select(0, source)
        part = _column(source_share, values)
        if kind == "soft":
            total = total + part.to(values.dtype) * paired
        else:
            total = torch.maximum(total, torch.where(part > 0, paired, torch.zeros_like(paired)))
    return total


def mix_frames(
    sources: Tensor,
    weights: Tensor,
    target: Tensor,
    hop: int = 1,
    num_classes: int | None = None,
    frames: Tensor | None = None,
    source_time: int | None = None,
) -> Tensor:
    """Frame labels of the mixed batch: they follow the weights over time and move where a source was moved.

    Args:
        sources: (K, B) long, the rows that make up each mixed row.
        weights: (K, B, R, T) what each source counts for each frame, in R bands of frequency which add up.
        target: (B, C, T') floating-point or bool labels, (B, T') ones of a single class, or (B, T') class indices,
            which need `num_classes`. Label j covers the frames (samples, for a waveform plan) j * hop ..
            (j + 1) * hop - 1; the last may be cut short.
        hop: Frames for each label.
        num_classes: The number of classes C, for class indices.
        frames: (K, B, R, T) long, the source's frame that stands at each frame; None: frames stay where they are.
        source_time: Frames that `target` labels, where the mix is longer; None: T.

    Returns:
        (B, C, T'), or (B, T') for labels of a single class: weights averaged over the frames that each label covers.

    Raises:
        ValueError: If T' is not ceil(T / hop), or indices come without `num_classes`.
    """
    _check_rows(sources, target, "target")
    if target.ndim == 2 and (target.is_floating_point() or target.dtype == torch.bool):
        return mix_frames(sources, weights, target.unsqueeze(1), hop, num_classes, frames, source_time).squeeze(1)
    time = source_time or weights.shape[3]
    labels = -(-time // hop)
    if target.shape[-1] != labels:
        raise ValueError(
            f"expected {labels} labels on the last axis ({time} frames, hop {hop}), got a target of "
            f"{tuple(target.shape)}; labels are (B, C, T') or (B, T')"
        )
    values = _as_scores(target, num_classes, classes_last=False)
    weights = weights.to(values.dtype)
    total = values.new_zeros(*values.shape[:2], -(-weights.shape[3] // hop))
    for k, source in enumerate(sources):
        theirs = values.index_select(0, source)
        if frames is None:
            total = total + theirs * _pool(weights[k].sum(1, keepdim=True), hop)
        elif hop == 1:
            at = frames[k].flatten(1)[:, None, :].expand(-1, theirs.shape[1], -1)
            total = total + (theirs.gather(2, at).unflatten(2, weights[k].shape[1:]) * weights[k][:, None]).sum(2)
        else:
            total = total + theirs @ _flow(weights[k], frames[k], hop, labels)
    return total


def _flow(weights: Tensor, frames: Tensor, hop: int, labels: int) -> Tensor:
    """How much of each label of a source (first) each label gets (second), (B, L, T'), without a value per sample.

    Args:
        weights: (B, R, T) what the source counts for each frame.
        frames: (B, R, T) long, the source's frame that stands there.
        hop: Frames for each label.
        labels: L, labels of the source.
    """
    time = weights.shape[2]
    wanted = -(-time // hop)
    label = torch.arange(time, device=frames.device) // hop
    covered = (time - hop * torch.arange(wanted, device=frames.device)).clamp(max=hop)
    source = (frames // hop).clamp(0, labels - 1)
    flow = torch.zeros(source.shape[0], labels * wanted, dtype=weights.dtype, device=source.device)
    flow.scatter_add_(1, (source * wanted + label).flatten(1), (weights / covered[label]).flatten(1))
    return flow.view(-1, labels, wanted)


def _pool(per_frame: Tensor, hop: int) -> Tensor:
    """Average over the frames of each label, (B, C, T) to (B, C, T'); the last label may cover fewer."""
    return per_frame if hop == 1 else F.avg_pool1d(per_frame, hop, ceil_mode=True)


def mixed_accuracy(sources: Tensor, share: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    """Accuracy where a prediction earns the share of the source that it names.

    Args:
        sources: (K, B).
        share: (K, B).
        prediction: (B, C) scores for the mixed batch.
        target: (B,) class indices before mixing.

    Returns:
        A scalar in [0, 1], the mean over rows.

    Raises:
        ValueError: If a shape is another.
    """
    _check_rows(sources, target, "target")
    _check_rows(sources, prediction, "prediction")
    if prediction.ndim != 2 or target.ndim != 1:
        raise ValueError(
            f"expected (B, C) scores and (B,) targets, got {tuple(prediction.shape)}, {tuple(target.shape)}"
        )
    return ((prediction.argmax(1) == target[sources]) * share).sum(0).mean()


def _as_scores(target: Tensor, num_classes: int | None, classes_last: bool) -> Tensor:
    if target.is_floating_point():
        return target
    if target.dtype == torch.bool:
        return target.float()
    wanted = 1 if classes_last else 2
    if target.ndim != wanted:
        raise ValueError(
            f"class indices must have {wanted} axes, got {tuple(target.shape)}; make multi-hot targets floating-point"
        )
    if num_classes is None:
        raise ValueError("class indices are mixed only with num_classes; floating-point targets as they are")
    scores = F.one_hot(target.long(), num_classes).float()
    return scores if classes_last else scores.movedim(-1, 1)


def _column(per_row: Tensor, values: Tensor) -> Tensor:
    """Shape (B,) numbers so that they multiply the rows of `values`, (B, ...)."""
    return per_row.view(-1, *[1] * (values.ndim - 1))


def _check_rows(sources: Tensor, values: Tensor, name: str, axis: int = 1) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"the {name} must be a tensor, got {type(values).__name__}")
    if values.ndim == 0 or values.shape[0] != sources.shape[axis]:
        raise ValueError(f"this plan is for {sources.shape[axis]} rows, got a {name} of shape {tuple(values.shape)}")
