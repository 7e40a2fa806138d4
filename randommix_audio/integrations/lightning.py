"""Lightning: a callback that mixes each training batch on the device.

trainer = L.Trainer(callbacks=[RandomMixCallback(rma.RandomMix(per="row"))])

def training_step(self, batch, batch_idx):
    x, word = batch
    return self.mix_plan.loss(F.cross_entropy, self(x), word)
"""

from typing import Any

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    try:
        from pytorch_lightning.callbacks import Callback
    except ImportError as error:
        raise ImportError("randommix_audio.integrations.lightning needs Lightning: pip install lightning") from error

from randommix_audio.integrations._batches import StepGenerator
from randommix_audio.mixers import Mixer


class RandomMixCallback(Callback):
    """Mixes `batch[input]` before each training step; the module finds the plan as `self.mix_plan`.

    Outside of a training step `mix_plan` is None. Each batch has its own generator, made of seed, the number of the
    batch and the process, so that a resumed run mixes what an undisturbed one would. A schedule of the mixer's `p`
    follows the training.

    Args:
        mixer: Any mixer.
        input: Where in the batch the tensor to mix is: a position in a list, as PyTorch's collate makes of tuples, or a
            key of a dict.
        lengths: Where the (B,) lengths of its rows are, which are replaced by those of the mix; None: there are none.
        seed: Of the draws.
    """

    def __init__(self, mixer: Mixer, input: str | int = 0, lengths: str | int | None = None, seed: int = 0) -> None:
        self.mixer, self.input, self.lengths, self.seed = mixer, input, lengths, seed
        self._generators = StepGenerator()

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See `Callback.setup`."""
        pl_module.mix_plan = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """See `Callback.on_train_batch_start`.

        Raises:
            TypeError: If the batch cannot be changed in place.
        """
        if not isinstance(batch, dict | list):
            raise TypeError(f"a callback can change a batch that is a dict or a list, got {type(batch).__name__}")
        self.mixer.set_progress(min(1.0, trainer.global_step / max(1, trainer.estimated_stepping_batches)))
        entries: Any = batch
        lengths = None if self.lengths is None else entries[self.lengths]
        generator = self._generators.of(self.seed, trainer.fit_loop.total_batch_idx, trainer.global_rank)
        entries[self.input], plan = self.mixer(entries[self.input], lengths=lengths, generator=generator)
        if self.lengths is not None:
            entries[self.lengths] = plan.lengths
        pl_module.mix_plan = plan

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """See `Callback.on_train_batch_end`."""
        pl_module.mix_plan = None
