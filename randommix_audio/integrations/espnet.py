"""ESPnet2: a mixin for `ESPnetASRModel`.

    class MixedASRModel(RandomMixASRMixin, ESPnetASRModel): ...
    model.use_mixer(rma.RandomMix(["mixup", "freq_cutmix"], layout="BTF", per="row", p=0.3))

Features are mixed between front end and SpecAugment. The plan cannot travel through `AbsSpecAug`, which returns
features and lengths alone.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from randommix_audio.integrations._batches import require_layout
from randommix_audio.integrations._hybrid import attention_branch, ctc_branch, weighed
from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixPlan


class RandomMixASRMixin:
    """Mixes the features of each training batch; the encoder runs once, CTC and the decoder score both transcripts.

    Without a mixer, and in eval(), the model is the one that it is mixed into. Accuracy and error rates are left out of
    the statistics while mixing. Transducers, intermediate CTC and auxiliary CTC are not supported.
    """

    _mixer: Mixer | None = None
    _plan: MixPlan | None = None

    def use_mixer(self, mixer: Mixer | None) -> None:
        """Mix with this mixer from now on, made with layout="BTF"; None: do not mix.

        Raises:
            ValueError: If the model has a branch that is not supported.
        """
        model: Any = self
        if mixer is not None and (model.use_transducer_decoder or model.interctc_weight != 0):
            raise ValueError(
                "no mixing of transducer or intermediate CTC branches: use plan.transducer_loss in your own"
            )
        self.__dict__["_mixer"] = mixer  # not a submodule: it is no part of what is stored or compiled

    def _extract_feats(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        model: Any = self
        feats, lengths = super()._extract_feats(speech, speech_lengths)  # type: ignore[misc]
        if self._mixer is None or not model.training:
            return feats, lengths
        require_layout(self._mixer, feats, "BTF", "ESPnet")
        feats, self._plan = self._mixer(feats, lengths=lengths)
        assert self._plan is not None
        assert self._plan.lengths is not None
        return feats, self._plan.lengths

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Any], Tensor]:
        """See `espnet2.asr.espnet_model.ESPnetASRModel.forward`."""
        model: Any = self
        if self._mixer is None or not model.training:
            return super().forward(speech, speech_lengths, text, text_lengths, **kwargs)  # type: ignore[misc]
        from espnet2.torch_utils.device_funcs import force_gatherable

        text = text[:, : text_lengths.max()].masked_fill(text[:, : text_lengths.max()] == -1, model.ignore_id)
        encoded, lengths = model.encode(speech, speech_lengths)
        encoded = encoded[0] if isinstance(encoded, tuple) else encoded
        plan, self._plan = self._plan, None
        assert plan is not None

        def decoder(some: Any, read: Tensor, read_lengths: Tensor) -> Tensor:
            longest = int(read_lengths.max())  # ESPnet's masks are that wide, and some rows may all be shorter
            logits = model.decoder(*some, read[:, :longest], read_lengths)[0]
            return F.pad(logits, (0, 0, 0, read.shape[1] - longest))

        ctc = attention = None
        if model.ctc_weight != 0:
            ctc = ctc_branch(plan, model, encoded, lengths, text, text_lengths)
        if model.ctc_weight != 1:
            attention = attention_branch(plan, model, decoder, (encoded, lengths), text, text_lengths)
        loss = weighed(model.ctc_weight, ctc, attention)
        stats = {"loss_ctc": ctc, "loss_att": attention, "loss": loss}
        stats = {name: None if value is None else value.detach() for name, value in stats.items()}
        return force_gatherable((loss, stats, speech.shape[0]), loss.device)  # type: ignore[no-any-return]
