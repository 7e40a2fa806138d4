"""SpeechBrain: the three lines of mixing in a recipe. Noise stands for your recordings."""

import speechbrain
import torch
from hyperpyyaml import load_hyperpyyaml

from randommix_audio.integrations.speechbrain import ctc_loss

HPARAMS = """
features: !new:speechbrain.lobes.features.Fbank {n_mels: 40}
mix: !new:randommix_audio.integrations.speechbrain.MixAugment
    mixer: !new:randommix_audio.RandomMix {candidates: [mixup, freq_cutmix], layout: BTF, per: row, p: 0.3}
modules: {model: !new:torch.nn.Linear [40, 30]}
"""


class Recogniser(speechbrain.Brain):
    """CTC with relative lengths."""

    def compute_forward(self, batch, stage):
        """Features, mixed while training."""
        feats, lens, plan = self.hparams.features(batch.wav.data), batch.wav.lengths, None
        if stage == speechbrain.Stage.TRAIN:
            feats, lens = self.hparams.mix(feats, lens)
            plan = self.hparams.mix.take_plan()
        return self.modules.model(feats).log_softmax(-1), lens, plan

    def compute_objectives(self, predictions, batch, stage):
        """The same call for every stage."""
        log_probs, lens, plan = predictions
        return ctc_loss(plan, log_probs, batch.tokens.data, lens, batch.tokens.lengths, blank_index=0)


if __name__ == "__main__":
    hparams = load_hyperpyyaml(HPARAMS)
    brain = Recogniser(hparams["modules"], lambda weights: torch.optim.Adam(weights, 1e-3), hparams)
    rows = [{"wav": torch.randn(8000 + 1000 * n) / 10, "tokens": torch.arange(3, 5 + n)} for n in range(4)]
    options = {"batch_size": 2, "collate_fn": speechbrain.dataio.batch.PaddedBatch}
    brain.fit(range(2), rows, train_loader_kwargs=options)
    print(f"loss {brain.evaluate(rows, test_loader_kwargs=options):.3f}")
