"""torch-audiomentations: mixing as one of the transforms of a Compose, with their targets and frozen parameters.

augment = Compose([Gain(output_type="dict"), MixWaveforms(rma.RandomMix(["mixup", "fmix"]))], output_type="dict")
wave = augment(wave, sample_rate=16000).samples             # (B, C, T)
loss = augment.transforms[1].take_plan().loss(F.cross_entropy, model(wave), word)
"""

from typing import Any

try:
    from torch_audiomentations.core.transforms_interface import BaseWaveformTransform
    from torch_audiomentations.utils.object_dict import ObjectDict
except ImportError as error:
    raise ImportError(
        "randommix_audio.integrations.torch_audiomentations needs it: pip install torch-audiomentations"
    ) from error

from torch import Tensor

from randommix_audio.mixers import Mixer
from randommix_audio.plan import MixPlan


class MixWaveforms(BaseWaveformTransform):
    """Mixes the rows of a batch of waveforms (B, C, T).

    Targets (B, C, frames, classes), as these transforms take them, become the weighted frame labels of the mix. Classes
    of whole clips need none: ask `take_plan` for the loss. `freeze_parameters()` replays the plan.

    Args:
        mixer: Any mixer for waveforms that keeps the number of samples, with domain="waveform" or none. Its plan is
            drawn for the mean of the channels, (B, T), and mixes all of them alike.
        p: Probability of mixing a batch.
        sample_rate: See `BaseWaveformTransform`; not needed here.
        target_rate: See `BaseWaveformTransform`.
        output_type: See `BaseWaveformTransform`.
    """

    supported_modes = {"per_example"}  # noqa: RUF012 - as its base has it
    requires_sample_rate = False

    def __init__(
        self,
        mixer: Mixer,
        p: float = 1.0,
        sample_rate: int | None = None,
        target_rate: int | None = None,
        output_type: str = "dict",
    ) -> None:
        super().__init__("per_example", p, "per_batch", sample_rate, target_rate, output_type)
        self.mixer = mixer
        self._plan: MixPlan | None = None

    def take_plan(self) -> MixPlan | None:
        """The plan of the last batch, once; None where it was not mixed."""
        plan, self._plan = self._plan, None
        return plan

    def randomize_parameters(self, samples: Tensor, **_: Any) -> None:
        """Draw the plan."""
        self.transform_parameters["plan"] = self.mixer.plan(samples.mean(1))

    def apply_transform(
        self, samples: Tensor, sample_rate: int | None = None, targets: Tensor | None = None, target_rate: Any = None
    ) -> ObjectDict:
        """Mix samples and targets as planned."""
        plan: MixPlan = self.transform_parameters["plan"]
        self._plan = plan
        return ObjectDict(
            samples=plan.apply(samples.unsqueeze(2)).squeeze(2),
            sample_rate=sample_rate,
            targets=None if targets is None else _mix_targets(plan, targets),
            target_rate=target_rate,
        )


def _mix_targets(plan: MixPlan, targets: Tensor) -> Tensor:
    """Weighted targets (B, C, frames, classes)."""
    batch, channels, frames, classes = targets.shape
    if frames == 1:  # a target of the whole clip
        return plan.mix_targets(targets.float().flatten(1)).view(targets.shape)
    labels = targets.float().transpose(2, 3).reshape(batch, channels * classes, frames)
    mixed = plan.mix_frames(labels, hop=-(-plan.size.time // frames))
    return mixed.view(batch, channels, classes, frames).transpose(2, 3)
