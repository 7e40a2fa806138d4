"""NVIDIA NeMo: a mixin for CTC models.

    class MixedCTCModel(RandomMixCTCMixin, EncDecCTCModelBPE): ...
    model = MixedCTCModel.from_pretrained(...)
    model.use_mixer(rma.RandomMix(["mixup", "freq_cutmix"], per="row", p=0.3))      # after change_vocabulary

Features (B, D, T) are mixed between preprocessor and SpecAugment. `training_step` stays NeMo's: logging, intermediate
CTC and auxiliary losses included.
"""

from typing import Any

from torch import Tensor, nn

from randommix_audio.integrations._batches import require_layout
from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixPlan


class MixedCTCLoss(nn.Module):
    """NeMo's CTC loss, of both transcripts while there is a plan.

    Args:
        plain: The model's `nemo.collections.asr.losses.ctc.CTCLoss`.
    """

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.plain = plain
        self.plan: MixPlan | None = None

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """See `nemo.collections.asr.losses.ctc.CTCLoss.forward`."""
        arguments = {"input_lengths": input_lengths.long(), "target_lengths": target_lengths.long()}
        if self.plan is None:
            return self.plain(log_probs=log_probs, targets=targets, **arguments)  # type: ignore[no-any-return]
        wanted = self.plain.config_reduction
        reduction = {"mean_batch": "batchmean", "mean_volume": "sum"}.get(wanted, wanted)
        loss = self.plan.ctc_loss(log_probs, targets.long(), **arguments, blank=self.plain.blank, reduction=reduction)
        return loss / target_lengths.sum() if wanted == "mean_volume" else loss


class RandomMixCTCMixin:
    """Mixes the features of each training step of a NeMo model with CTC; the encoder runs once.

    Without a mixer, and in eval(), the model is the one that it is mixed into. The training error rate that NeMo logs
    is that against the rows' own transcripts, so that it means little for mixed ones.
    """

    _mixer: Mixer | None = None

    def use_mixer(self, mixer: Mixer | None) -> None:
        """Mix with this mixer from now on; None: do not mix. Call it again after `change_vocabulary`."""
        model: Any = self
        self.__dict__["_mixer"] = mixer  # not a submodule: it is no part of what is stored or compiled
        if mixer is not None and not isinstance(model.loss, MixedCTCLoss):
            model.loss = MixedCTCLoss(model.loss)

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
    ) -> Any:
        """See `nemo.collections.asr.models.EncDecCTCModel.forward`."""
        model: Any = self
        if self._mixer is not None and model.training:
            if processed_signal is None:
                processed_signal, processed_signal_length = model.preprocessor(
                    input_signal=input_signal, length=input_signal_length
                )
                input_signal = input_signal_length = None
            require_layout(self._mixer, processed_signal, "BFT", "NeMo")
            processed_signal, plan = self._mixer(processed_signal, lengths=processed_signal_length)
            processed_signal_length, model.loss.plan = plan.lengths, plan
        return super().forward(  # type: ignore[misc]
            input_signal=input_signal,
            input_signal_length=input_signal_length,
            processed_signal=processed_signal,
            processed_signal_length=processed_signal_length,
        )

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        """See `nemo.collections.asr.models.EncDecCTCModel.training_step`."""
        model: Any = self
        try:
            return super().training_step(batch, batch_nb)  # type: ignore[misc]
        finally:
            if isinstance(model.loss, MixedCTCLoss):
                model.loss.plan = None
