"""WeNet: a mixin for `ASRModel`, written against its published source (v3, commit 0154699); WeNet is not on PyPI.

    class MixedASRModel(RandomMixASRMixin, ASRModel): ...
    model = MixedASRModel(vocab_size, encoder, decoder, ctc, ...)
    model.use_mixer(rma.RandomMix(["mixup", "freq_cutmix"], layout="BTF", per="row", p=0.3))

`train_utils.batch_forward` and the executor stay as they are: batches are mixed inside the model, on the device.
"""

from typing import Any

import torch
from torch import Tensor

from randommix_audio.integrations._batches import require_layout
from randommix_audio.integrations._hybrid import attention_branch, ctc_branch, weighed
from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixPlan


class RandomMixASRMixin:
    """Mixes the features of each training batch of an ASRModel; the encoder runs once, the decoders twice.

    Without a mixer, and in eval(), the model is the one that it is mixed into. `th_accuracy` is None while mixing:
    accuracy against one transcript of two says nothing.
    """

    __jit_ignored_attributes__ = ["_mixer"]  # noqa: RUF012 - a name that torch.jit.script looks for, as a list
    _mixer: Mixer | None = None

    def use_mixer(self, mixer: Mixer | None) -> None:
        """Mix with this mixer from now on, made with layout="BTF"; None: do not mix."""
        self.__dict__["_mixer"] = mixer  # not a submodule: it is no part of what is stored or compiled

    @torch.jit.unused
    def forward(self, batch: dict[str, Any], device: torch.device) -> dict[str, Tensor | None]:
        """See `wenet.models.transformer.asr_model.ASRModel.forward`.

        Raises:
            ValueError: If the mixer reads the features along other axes, or the model decodes from non-blank frames.
        """
        model: Any = self
        if self._mixer is None or not model.training:
            return super().forward(batch, device)  # type: ignore[misc]
        if model.apply_non_blank_embedding:
            raise ValueError("apply_non_blank_embedding: the blanks of a mix are not those of its transcripts")
        feats, text = batch["feats"].to(device), batch["target"].to(device)
        text_lengths = batch["target_lengths"].to(device)
        require_layout(self._mixer, feats, "BTF", "WeNet")
        feats, plan = self._mixer(feats, lengths=batch["feats_lengths"].to(device))
        encoded, mask = model.encoder(feats, plan.lengths)
        ctc = attention = None
        if model.ctc_weight != 0:
            ctc = ctc_branch(plan, model, encoded, mask.squeeze(1).sum(1), text, text_lengths)
        if model.ctc_weight != 1:
            attention = _both_directions(plan, model, (encoded, mask), text, text_lengths)
        loss = weighed(model.ctc_weight, ctc, attention)
        return {"loss": loss, "loss_att": attention, "loss_ctc": ctc, "th_accuracy": None}


def _both_directions(plan: MixPlan, model: Any, encoded: Any, text: Tensor, text_lengths: Tensor) -> Tensor:
    """The attention loss from left to right and, where the model has that decoder too, from right to left."""

    def left(some: Any, read: Tensor, lengths: Tensor) -> Tensor:
        return model.decoder(*some, read, lengths, read, 0.0)[0]

    def right(some: Any, read: Tensor, lengths: Tensor) -> Tensor:
        return model.decoder.right_decoder(*some, read, lengths)[0]

    loss = attention_branch(plan, model, left, encoded, text, text_lengths)
    if model.reverse_weight > 0:
        place = text_lengths[:, None] - 1 - torch.arange(text.shape[1], device=text.device)
        reverse = text.gather(1, place.clamp(min=0))
        other = attention_branch(plan, model, right, encoded, reverse, text_lengths)
        loss = (1 - model.reverse_weight) * loss + model.reverse_weight * other
    return loss
