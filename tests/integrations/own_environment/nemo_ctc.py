"""NeMo in an environment of its own: `make test-toolkits`. Not collected by `make test`."""

import lightning.pytorch as pl
import pytest
import torch
from nemo.collections.asr.models import EncDecCTCModel
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.nemo import RandomMixCTCMixin

LETTERS = list(" abcdefghij")
MODULES = "nemo.collections.asr.modules."


class MixedCTCModel(RandomMixCTCMixin, EncDecCTCModel):
    pass


def model_of(**arguments):
    torch.manual_seed(0)
    block = {
        "repeat": 1,
        "kernel": [5],
        "dilation": [1],
        "dropout": 0.0,
        "residual": False,
        "separable": True,
        "se": False,
    }
    mel = {"_target_": f"{MODULES}AudioToMelSpectrogramPreprocessor", "features": 24, "dither": 0.0, "pad_to": 16}
    encoder = {
        "_target_": f"{MODULES}ConvASREncoder",
        "feat_in": 24,
        "activation": "relu",
        "conv_mask": True,
        "jasper": [{"filters": 32, "stride": [2], **block}],
    }
    decoder = {
        "_target_": f"{MODULES}ConvASRDecoder",
        "feat_in": 32,
        "num_classes": len(LETTERS),
        "vocabulary": LETTERS,
    }
    optim = {"name": "adam", "lr": 1e-2}
    parts = {"preprocessor": mel, "encoder": encoder, "decoder": decoder, "optim": optim} | arguments
    model = MixedCTCModel(cfg=DictConfig(OmegaConf.create(parts)))
    return model.train()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    samples, symbols = torch.tensor([16000, 14000, 12000, 9000]), torch.tensor([5, 2, 4, 3])
    signal = torch.randn(4, 16000) * (torch.arange(16000) < samples[:, None]) / 10
    return signal, samples, torch.randint(1, 11, (4, 5)), symbols


def loss_of(model, batch):
    signal, samples, text, symbols = batch
    log_probs, frames, _ = model(input_signal=signal, input_signal_length=samples)
    return model.loss(log_probs=log_probs, targets=text, input_lengths=frames, target_lengths=symbols)


@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume", "mean", "sum"])
def test_a_batch_that_is_not_mixed_has_the_models_own_loss(batch, reduction):
    model = model_of(ctc_reduction=reduction)
    own = loss_of(model, batch)
    model.use_mixer(rma.NoMix())
    torch.testing.assert_close(loss_of(model, batch), own)


def test_a_mixed_row_is_scored_against_both_transcripts(batch):
    model, drawn = model_of(), []
    mixer = rma.Mixup(pairing="roll", per="row")
    mixer.register_forward_hook(lambda _, __, out: drawn.append(out))
    model.use_mixer(mixer)
    found = loss_of(model, batch)
    (x, plan), plain = drawn[0], model.loss.plain
    model.use_mixer(None)
    log_probs, frames, _ = model(processed_signal=x, processed_signal_length=plan.lengths)
    expected = 0.0
    for k in range(2):
        for row, source in enumerate(plan.sources[k].tolist()):
            one = {"log_probs": log_probs[row : row + 1], "input_lengths": frames[row : row + 1]}
            label = {"targets": batch[2][source : source + 1], "target_lengths": batch[3][source : source + 1]}
            expected += plan.transcripts.share[k, row] * plain(**one, **label) / 4
    torch.testing.assert_close(found, expected)


def test_a_trainer_of_nemo_trains_with_it_and_validates_without(batch):
    model = model_of()
    model.use_mixer(rma.RandomMix(["mixup", "freq_cutmix"], per="row", p=0.5))
    model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), 1e-2)
    losses = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, *_):
            losses.append(outputs["loss"].item())
            assert module.loss.plan is None

    trainer = pl.Trainer(
        max_epochs=20,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[Watch()],
    )
    model.set_trainer(trainer)
    model._optimizer = torch.optim.Adam(model.parameters(), 1e-2)  # whose rate NeMo logs
    trainer.fit(model, DataLoader([batch], batch_size=None))
    assert len(losses) == 20
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4]), losses
    own = loss_of(model.eval(), batch)
    assert own.isfinite()
    torch.testing.assert_close(loss_of(model, batch), own)
