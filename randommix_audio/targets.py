"""Losses, targets and accuracy of a mixed batch. All of them weigh the sources by `plan.share`.

B rows, K sources for each row, C classes.
"""

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from randommix_audio.plan import MixPlan

Criterion = Callable[..., Tensor]


def mixed_loss(
    plan: "MixPlan",
    criterion: Criterion,
    prediction: Tensor,
    target: Tensor,
    reduction: str = "mean",
    **options: Any,
) -> Tensor:
    """Loss of a mixed batch: for each row the losses against its sources' targets, weighted by their shares.

    This is exact for any criterion (class weights, ignored targets, focal, margin losses), where mixing the targets
    themselves is exact only for losses linear in the target. The criterion is asked for per-row values: a function gets
    `reduction="none"`, a module with a `reduction` is copied and the copy set to "none".

    "mean" is the mean over rows of the share-weighted loss, a row's loss being the mean over its remaining axes. Where
    the targets are class indices and the criterion is `cross_entropy` or `nll_loss` (as function or module), it counts
    as in PyTorch: the sum of weighted losses over the sum of the class weights of the targets, ignored targets counting
    nothing; both sums are share-weighted, so that an unmixed batch gives exactly PyTorch's mean.

    Args:
        plan: The plan that the batch was mixed with.
        criterion: Function or module of (prediction, target) that can give per-row values.
        prediction: (B, ...) model output for the mixed batch.
        target: (B, ...) targets of the batch before mixing.
        reduction: "mean", "sum" or "none" (per-row values, (B, ...)).
        **options: Passed to a function criterion, as in `plan.loss(F.cross_entropy, z, y, label_smoothing=0.1)`.

    Raises:
        ValueError: If the criterion gives only a mean, the reduction is unknown or the target has another row count.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    _check_rows(plan, target, "target")
    _check_rows(plan, prediction, "prediction")
    per_row = _per_row(criterion, options)
    total: Tensor | None = None
    count: Tensor | None = None
    for k in range(plan.sources.shape[0]):
        paired = plan.pair(target, k)
        values = per_row(prediction, paired)
        if values.ndim == 0 or values.shape[0] != plan.batch:
            raise ValueError(
                f"the criterion gave a result of shape {tuple(values.shape)} for {plan.batch} rows; a mixed loss needs "
                'one value for each row: pass a criterion that takes reduction="none" (or was made with it)'
            )
        share = plan.share[k].to(values.dtype).view(-1, *[1] * (values.ndim - 1))
        weight = _class_weight(criterion, options, paired)
        total = share * values if total is None else total + share * values
        if weight is not None:
            weighted = share * weight.to(values.dtype)
            count = weighted if count is None else count + weighted
    assert total is not None
    if reduction == "none":
        return total
    if reduction == "sum":
        return total.sum()
    return total.mean() if count is None else total.sum() / count.sum()


def _per_row(criterion: Criterion, options: dict[str, Any]) -> Criterion:
    if isinstance(criterion, nn.Module):
        if options:
            raise ValueError(f"a module criterion takes no further options, got {', '.join(options)}")
        if hasattr(criterion, "reduction") and criterion.reduction != "none":
            criterion = copy.copy(criterion)
            criterion.reduction = "none"  # type: ignore[assignment]
        return criterion
    try:
        parameters = inspect.signature(criterion).parameters.values()
    except (TypeError, ValueError):  # built-in functions show no signature
        parameters = {}.values()
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


def mix_targets(plan: "MixPlan", target: Tensor, num_classes: int | None = None, kind: str = "soft") -> Tensor:
    """One target for each mixed row.

    Args:
        plan: The plan that the batch was mixed with.
        target: (B,) class indices, which need `num_classes`; or (B, ...) floating-point, soft or multi-hot.
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
    _check_rows(plan, target, "target")
    values = _as_scores(target, num_classes, classes_last=True)
    total = torch.zeros_like(values)
    for k in range(plan.sources.shape[0]):
        share = plan.share[k].view(-1, *[1] * (values.ndim - 1))
        paired = plan.pair(values, k)
        if kind == "soft":
            total = total + share.to(values.dtype) * paired
        else:
            total = torch.maximum(total, torch.where(share > 0, paired, torch.zeros_like(paired)))
    return total


def mix_frames(plan: "MixPlan", target: Tensor, hop: int = 1, num_classes: int | None = None) -> Tensor:
    """Frame labels of the mixed batch: they follow the weights over time and move where the partner was moved.

    Args:
        plan: The plan that the batch was mixed with.
        target: (B, C, T') floating-point labels, or (B, T') class indices, which need `num_classes`. Label j covers
            the frames (samples, for a waveform plan) j * hop .. (j + 1) * hop - 1; the last may be cut short.
        hop: Frames for each label.
        num_classes: The number of classes C, for class indices.

    Returns:
        (B, C, T'): weights averaged over frequency and over the frames that each label covers.

    Raises:
        ValueError: If T' is not ceil(T / hop), or indices come without `num_classes`.
    """
    _check_rows(plan, target, "target")
    labels = -(-plan.time // hop)
    if target.shape[-1] != labels:
        raise ValueError(f"expected {labels} labels ({plan.time} frames, hop {hop}), got {target.shape[-1]}")
    values = _as_scores(target, num_classes, classes_last=False)
    weights = plan.weights.mean(3).expand(-1, plan.batch, 1, plan.time).to(values.dtype)
    own = values * _pool(weights[0], hop)
    partner = plan.pair(values)
    moved = plan.geometry.partner_frames(plan.time)
    if moved is None:
        return own + partner * _pool(weights[1], hop)
    label = (moved // hop).clamp(0, labels - 1)[:, None, :].expand(plan.batch, values.shape[1], plan.time)
    return own + _pool(partner.gather(2, label) * weights[1], hop)


def _pool(per_frame: Tensor, hop: int) -> Tensor:
    """Average over the frames of each label, (B, C, T) to (B, C, T'); the last label may cover fewer."""
    return per_frame if hop == 1 else F.avg_pool1d(per_frame, hop, ceil_mode=True)


def mixed_accuracy(plan: "MixPlan", prediction: Tensor, target: Tensor) -> Tensor:
    """Accuracy where a prediction earns the share of the source that it names.

    Args:
        plan: The plan that the batch was mixed with.
        prediction: (B, C) scores for the mixed batch.
        target: (B,) class indices before mixing.

    Returns:
        A scalar in [0, 1], the mean over rows.
    """
    _check_rows(plan, target, "target")
    named = prediction.argmax(1)
    hits = torch.stack([named == plan.pair(target, k) for k in range(plan.sources.shape[0])])
    return (hits * plan.share).sum(0).mean()


def _as_scores(target: Tensor, num_classes: int | None, classes_last: bool) -> Tensor:
    if target.is_floating_point():
        return target
    if num_classes is None:
        raise ValueError("class indices are mixed only with num_classes; floating-point targets as they are")
    scores = F.one_hot(target.long(), num_classes).float()
    return scores if classes_last else scores.movedim(-1, 1)


def _check_rows(plan: "MixPlan", values: Tensor, name: str) -> None:
    if values.ndim == 0 or values.shape[0] != plan.batch:
        raise ValueError(f"this plan is for {plan.batch} rows, got a {name} of shape {tuple(values.shape)}")
