"""Lightning: the callback mixes training batches alone, and leaves the plan where the module finds it."""

import logging
import pickle

import lightning
import pytest
import pytorch_lightning
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.lightning import RandomMixCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore")  # about workers and loggers, which these trainings do without


class Steps:
    """What a user's module does; Lightning has two packages, with a base class in each."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 3)
        self.seen, self.validated = [], []

    def forward(self, x):
        return self.layer(x.mean(2))

    def training_step(self, batch, batch_idx):
        x, word = (batch["x"], batch["word"]) if isinstance(batch, dict) else batch[:2]
        self.seen.append((x.clone(), self.mix_plan))
        return self.mix_plan.loss(F.cross_entropy, self(x), word)

    def validation_step(self, batch, batch_idx):
        assert self.mix_plan is None
        self.validated.append(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Keywords(Steps, lightning.pytorch.LightningModule):
    pass


class OlderKeywords(Steps, pytorch_lightning.LightningModule):
    pass


def trainer_of(callback, package=lightning.pytorch, **arguments):
    usual = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return package.Trainer(callbacks=[callback], **(usual | quiet | arguments))


@pytest.fixture
def rows():
    torch.manual_seed(0)
    return [(torch.randn(8, 20), torch.tensor(row % 3)) for row in range(12)]


@pytest.mark.parametrize("package, kind", [(lightning.pytorch, Keywords), (pytorch_lightning, OlderKeywords)])
def test_training_batches_are_mixed_and_others_are_not(rows, package, kind):
    loader, module = DataLoader(rows, batch_size=4), kind()
    kept = torch.stack([x for x, _ in rows])
    trainer_of(RandomMixCallback(rma.RandomMix(per="row")), package).fit(module, loader, loader)
    assert len(module.seen) == 6
    for number, (x, plan) in enumerate(module.seen):
        start = 4 * (number % 3)
        torch.testing.assert_close(x, plan.apply(kept[start : start + 4]))
        assert not torch.equal(x, kept[start : start + 4])
    assert all(any(torch.equal(x, part) for part in kept.split(4)) for x in module.validated)
    assert torch.equal(torch.stack([x for x, _ in rows]), kept)
    assert module.mix_plan is None


def test_a_dict_with_lengths_gets_the_lengths_of_the_mix(rows):
    rows = [{"x": x, "word": word, "frames": torch.tensor(5 + number)} for number, (x, word) in enumerate(rows)]
    module, lengths = Keywords(), []

    class Watch(lightning.pytorch.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            lengths.append((batch["frames"], module.seen[-1][1].lengths))

    callback = RandomMixCallback(rma.Mixup(), input="x", lengths="frames")
    trainer = trainer_of(callback, max_epochs=1)
    trainer.callbacks.append(Watch())
    trainer.fit(module, DataLoader(rows, batch_size=4))
    assert len(lengths) == 3
    for found, planned in lengths:
        assert torch.equal(found, planned)
    assert lengths[0][0].tolist() != [5, 6, 7, 8]


def test_equal_seeds_draw_alike_whatever_else_is_random(rows):
    def shares(seed):
        module = Keywords()
        torch.rand(torch.randint(1, 100, ()))
        trainer_of(RandomMixCallback(rma.Mixup(), seed=seed)).fit(module, DataLoader(rows, batch_size=4))
        return [plan.lam[0].item() for _, plan in module.seen]

    assert shares(1) == shares(1) != shares(2)
    assert len(set(shares(1))) == 6


def test_a_resumed_training_mixes_what_an_undisturbed_one_would(rows, tmp_path):
    def fit(trainer, **arguments):
        module = Keywords()
        trainer.fit(module, DataLoader(rows, batch_size=4), **arguments)
        return trainer, [plan.lam[0].item() for _, plan in module.seen]

    _, whole = fit(trainer_of(RandomMixCallback(rma.Mixup())))
    first, _ = fit(trainer_of(RandomMixCallback(rma.Mixup()), max_epochs=1))
    first.save_checkpoint(tmp_path / "a.ckpt")
    _, second = fit(trainer_of(RandomMixCallback(rma.Mixup())), ckpt_path=tmp_path / "a.ckpt")
    assert second == whole[3:]


def test_batches_of_one_accumulated_step_differ_and_a_schedule_follows_the_training(rows):
    module, callback = Keywords(), RandomMixCallback(rma.Mixup(per="row", p=[[0.0, 1.0], [1.0, 0.0]]))
    trainer_of(callback, accumulate_grad_batches=3).fit(module, DataLoader(rows, batch_size=4))
    assert len({plan.lam.sum().item() for _, plan in module.seen}) == 6
    for number, (x, plan) in enumerate(module.seen):
        callback.mixer.set_progress(number // 3 / 2)
        again = callback.mixer.plan(x, generator=rma.step_generator(0, number, 0))
        assert torch.equal(again.lam, plan.lam)


def test_a_batch_that_cannot_be_changed_is_refused(rows):
    loader = DataLoader(rows, batch_size=4, collate_fn=lambda rows: tuple(torch.utils.data.default_collate(rows)))
    with pytest.raises(TypeError, match="dict or a list, got tuple"):
        trainer_of(RandomMixCallback(rma.Mixup())).fit(Keywords(), loader)


def test_it_pickles_after_training(rows):
    callback = RandomMixCallback(rma.RandomMix())
    trainer_of(callback, max_epochs=1).fit(Keywords(), DataLoader(rows, batch_size=4))
    assert pickle.loads(pickle.dumps(callback)).seed == 0
