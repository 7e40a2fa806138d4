"""SpeechBrain: mixing where an Augmenter stands, relative lengths, and SpeechBrain's losses with a plan.

feats, fea_lens = self.hparams.mix(feats, wav_lens)         # compute_forward, stage TRAIN
plan = self.hparams.mix.take_plan()                         # hand it on with the predictions
loss = ctc_loss(plan, p_ctc, tokens, fea_lens, tokens_lens, blank_index)       # compute_objectives, any stage
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from randommix_audio import sequences
from randommix_audio.integrations._batches import require_layout
from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixedTargets, MixPlan


def to_frames(lengths: Tensor, size: int) -> Tensor:
    """Relative lengths in [0, 1] as numbers of frames or tokens, rounded as SpeechBrain's losses round them.

    Args:
        lengths: (B,) float.
        size: Frames T, samples or tokens of the padded batch.

    Returns:
        (B,) long.
    """
    return (lengths * size).round().long()


class MixAugment(nn.Module):
    """Mixes a batch as an Augmenter, or as one of the `augmentations` of an Augmenter.

    Args:
        mixer: For features (B, T, F) made with layout="BTF"; for waveforms (B, T) with its default layout.
    """

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer = mixer
        self._plan: MixPlan | None = None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch and keep the plan for `take_plan`.

        Args:
            x: (B, T, F) features or (B, T) waveforms.
            lengths: (B,) relative lengths in [0, 1].

        Returns:
            The mixed batch and its relative lengths, which may differ from those given: a mix is as long as the longer
            of its two rows. A recipe that goes on with the old ones needs a mixer with length_policy="anchor".

        Raises:
            ValueError: If the mixer reads `x` along other axes.
        """
        require_layout(self.mixer, x, "BTF" if x.ndim == 3 else "BT", "SpeechBrain")
        mixed, plan = self.mixer(x, lengths=to_frames(lengths, x.shape[1]))
        self._plan = plan
        return mixed, plan.lengths.to(lengths.dtype) / mixed.shape[1]

    def take_plan(self, augmenter: Any = None) -> MixedTargets | None:
        """The plan of the last batch, once: a second call, or one in a stage without mixing, gives None.

        Args:
            augmenter: The Augmenter that has this module among its augmentations, to widen the plan to the labels that
                `augmenter.replicate_labels` gives.

        Raises:
            ValueError: If the Augmenter puts the mixed rows where nobody can find them again.
        """
        plan, self._plan = self._plan, None
        if plan is None or augmenter is None:
            return plan
        if not augmenter.do_augment:
            return None
        before, after = _rows_around(augmenter, self, plan.batch)
        return plan if before == after == 0 else WidenedPlan(plan, before, after)


class WidenedPlan(MixedTargets):
    """A plan among rows that are not mixed: those of an Augmenter with `concat_original` or `parallel_augment`.

    Args:
        plan: The plan of the rows in the middle.
        before: Rows before them.
        after: Rows behind them.
    """

    def __init__(self, plan: MixPlan, before: int, after: int) -> None:
        self._plan, self._before, self._after = plan, before, after
        self.sources = self._with_index(plan.sources)
        self.share = self._with_own(plan.share)

    @property
    def transcripts(self) -> sequences.MixedRows:
        """See `MixPlan.transcripts`."""
        rows = self._plan.transcripts
        joined = None if rows.joined is None else nn.functional.pad(rows.joined, (self._before, self._after))
        mixed = None if rows.mixed is None else rows.mixed + self._before
        return sequences.MixedRows(self.sources, self._with_own(rows.share), mixed, joined)

    def _with_index(self, sources: Tensor) -> Tensor:
        here = torch.arange(self._before + sources.shape[1] + self._after, device=sources.device)
        here = here.repeat(sources.shape[0], 1)
        return torch.cat([here[:, : self._before], sources + self._before, here[:, here.shape[1] - self._after :]], 1)

    def _with_own(self, share: Tensor) -> Tensor:
        whole = share.new_zeros(share.shape[0], self._before + share.shape[1] + self._after)
        whole[0] = 1
        whole[:, self._before : self._before + share.shape[1]] = share
        return whole


def ctc_loss(
    plan: MixedTargets | None,
    log_probs: Tensor,
    targets: Tensor,
    input_lens: Tensor,
    target_lens: Tensor,
    blank_index: int,
    reduction: str = "mean",
    separator: int | None = None,
) -> Tensor:
    """`speechbrain.nnet.losses.ctc_loss` of a batch that may be mixed.

    Args:
        plan: From `MixAugment.take_plan`; None: the batch is not mixed.
        log_probs: (B, T', V).
        targets: (B, U), as `replicate_labels` gives them where the Augmenter replicates rows.
        input_lens: (B,) relative.
        target_lens: (B,) relative.
        blank_index: The blank symbol.
        reduction: "mean", "batchmean", "sum" or "none".
        separator: Symbol between joined transcripts, see `randommix_audio.sequences.ctc_loss`.
    """
    return _plan_of(plan, targets).ctc_loss(
        log_probs,
        targets,
        to_frames(target_lens, targets.shape[1]),
        to_frames(input_lens, log_probs.shape[1]),
        blank=blank_index,
        reduction=reduction,
        separator=separator,
    )


def class_loss(
    plan: MixedTargets | None, criterion: Callable[..., Tensor], predictions: Tensor, targets: Tensor, **options: Any
) -> Tensor:
    """A loss of SpeechBrain for a class of each row, such as `nll_loss` or `bce_loss`, of a batch that may be mixed.

    Args:
        plan: From `MixAugment.take_plan`; None: the batch is not mixed.
        criterion: Of (predictions, targets, reduction="batch", **options), giving (B,) losses.
        predictions: (B, ...), as the criterion takes them.
        targets: (B, ...), a class or classes of each row; not frame labels, not transcripts.
        **options: Passed on.

    Returns:
        The mean over rows, which SpeechBrain's "mean" is too for targets of one length.
    """
    plan = _plan_of(plan, targets)
    own = [
        criterion(predictions, plan.pair(targets, k), reduction="batch", **options) * plan.share[k]
        for k in range(plan.sources.shape[0])
    ]
    return torch.stack(own).sum(0).mean()


class _Unmixed(MixedTargets):
    def __init__(self, rows: int, device: torch.device) -> None:
        self.sources = torch.arange(rows, device=device)[None]
        self.share = torch.ones(1, rows, device=device)


def _plan_of(plan: MixedTargets | None, targets: Tensor) -> MixedTargets:
    return _Unmixed(targets.shape[0], targets.device) if plan is None else plan


def _rows_around(augmenter: Any, module: MixAugment, rows: int) -> tuple[int, int]:
    """How many rows an Augmenter's batch holds before and behind those that a module returned."""
    if augmenter.repeat_augment != 1:
        raise ValueError("the Augmenter repeats its augmentations, so that several plans belong to one batch")
    before = 0
    if augmenter.concat_original and not augmenter.skip_concat:
        before = augmenter.concat_end_index_batch - augmenter.concat_start_index
    if not augmenter.parallel_augment:
        return before, 0
    if augmenter.shuffle_augmentations or augmenter.parallel_augment_fixed_bs:
        raise ValueError(
            "in parallel, the Augmenter must neither shuffle its augmentations nor divide the batch by them"
        )
    place = list(augmenter.augmentations.values()).index(module)
    return before + place * rows, (int(augmenter.N_augment) - place - 1) * rows
