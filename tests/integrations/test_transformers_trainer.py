"""transformers: Trainers whose batches are mixed, step by step, resumed, and on AN4."""

import pickle

import pytest
import torch
from transformers import (
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

import randommix_audio as rma
from tests.integrations import an4
from tests.integrations.transformers_models import MixSeq2SeqTrainer, MixTrainer, ast, wav2vec2, whisper


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def train(model, rows, folder, mixer, kind=MixTrainer, settings=TrainingArguments, **arguments):
    """Train and give the trainer and the loss of each step."""
    usual = {"max_steps": 20, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "warmup_steps": 2}
    arguments = settings(
        folder,
        logging_steps=1,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **(usual | arguments),
    )
    trainer = kind(model, arguments, mixer=mixer, train_dataset=rows, data_collator=collate)
    trainer.train()
    return trainer, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def collate(rows):
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name not in ("labels", "wave")}
    if "wave" in rows[0]:
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
        waves = [row["wave"].numpy() for row in rows]
        batch |= extractor(waves, sampling_rate=an4.SAMPLE_RATE, padding=True, return_tensors="pt")
    labels = [row["labels"] for row in rows]
    return batch | {"labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)}


def tones(count):
    """(64, 24) features with a loud bin for each of five classes."""
    rows = []
    for number in range(count):
        features = torch.randn(64, 24)
        features[:, 4 * (number % 5)] += 4
        rows.append({"input_values": features, "labels": torch.tensor([number % 5])[0]})
    return rows


def collate_classes(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.fixture
def class_trainer(tmp_path):
    def make(mixer, **arguments):
        torch.manual_seed(1)
        usual = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2}
        settings = TrainingArguments(
            tmp_path, use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, **(usual | arguments)
        )
        rows = tones(16)
        return MixTrainer(
            ast(), settings, mixer=mixer, train_dataset=rows, eval_dataset=rows, data_collator=collate_classes
        )

    return make


def losses_of(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_gradient_accumulation_averages_the_batches(class_trainer):
    """Four batches of four with an equal effect to one of sixteen: nothing is random but the mixing, which is off."""
    together = class_trainer(rma.NoMix(layout="BTF"), per_device_train_batch_size=16, max_steps=2, save_strategy="no")
    apart = class_trainer(rma.NoMix(layout="BTF"), gradient_accumulation_steps=4, max_steps=2, save_strategy="no")
    for trainer in (together, apart):
        trainer.model.config.hidden_dropout_prob = 0.0
        trainer.train()
    torch.testing.assert_close(losses_of(apart), losses_of(together), rtol=1e-4, atol=1e-4)


def drawn_by(mixer):
    """The shares that the mixer draws from now on."""
    seen = []
    mixer.register_forward_hook(lambda _, __, out: seen.append(out[1].lam.tolist()))
    return seen


def test_a_resumed_training_mixes_what_an_undisturbed_one_would(class_trainer):
    schedule = [[0.0, 1.0], [1.0, 0.0]]
    mixers = [rma.RandomMix(layout="BTF", per="row", p=schedule) for _ in range(2)]
    whole, resumed = map(drawn_by, mixers)
    trainer = class_trainer(mixers[0], save_steps=2)
    trainer.train()
    class_trainer(mixers[1]).train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-2")
    assert len(whole) == 4
    assert resumed == whole[2:]
    assert mixers[0].progress == mixers[1].progress == 0.75


def test_what_is_mixed_depends_on_seed_and_step_alone(class_trainer):
    drawn = []
    for noise in (0, 3):
        trainer = class_trainer(rma.Mixup(layout="BTF"), save_strategy="no")
        trainer.data_collator = lambda rows, noise=noise: (torch.rand(noise), collate_classes(rows))[1]
        drawn.append(drawn_by(trainer.mixer))
        trainer.train()
    assert drawn[0] == drawn[1]


def test_batches_of_one_step_are_mixed_differently(class_trainer):
    trainer = class_trainer(rma.Mixup(layout="BTF"), gradient_accumulation_steps=2, max_steps=2, save_strategy="no")
    drawn = drawn_by(trainer.mixer)
    trainer.train()
    assert len({lam[0] for lam in drawn}) == len(drawn) == 4


def test_evaluation_is_the_trainers_own(class_trainer):
    trainer = class_trainer(rma.RandomMix(layout="BTF"))
    plain = Trainer(trainer.model, trainer.args, eval_dataset=trainer.eval_dataset, data_collator=collate_classes)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"])


def test_the_mixin_holds_nothing_that_does_not_pickle(class_trainer):
    trainer = class_trainer(rma.RandomMix(layout="BTF"), save_strategy="no")
    trainer.train()
    generators = pickle.loads(pickle.dumps(trainer._mix_generators))
    assert generators.of(0, 3, 0).initial_seed() == rma.step_generator(0, 3, 0).initial_seed()


def test_wav2vec2_trains_on_an4(real_data, tmp_path):
    rows = [{"wave": wave, "labels": torch.tensor(an4.tokens(text))} for _, wave, text in an4.utterances(real_data, 24)]
    model = wav2vec2(vocabulary=an4.SYMBOLS, ctc_loss_reduction="mean", stride=(20, 16))
    mixer = rma.Mixup(per="row", p=0.5)
    _, losses = train(model, rows, tmp_path, mixer, remove_unused_columns=False, learning_rate=1e-2)
    assert len(losses) == 20
    assert an4.fell(losses), losses


def test_whisper_trains_on_an4_in_batches_of_3000_frames(real_data, tmp_path):
    extractor = WhisperFeatureExtractor()
    rows = []
    for _, wave, text in an4.utterances(real_data, 16):
        features = extractor(wave.numpy(), sampling_rate=an4.SAMPLE_RATE, return_tensors="pt").input_features[0]
        assert features.shape == (80, 3000)
        rows.append({"input_features": features, "labels": torch.tensor([*an4.tokens(text), 1])})
    model = whisper(vocabulary=an4.SYMBOLS + 1, source_positions=1500)
    mixer = rma.RandomMix(["mixup", "freq_cutmix"], per="row", p=0.5)
    _, losses = train(
        model,
        rows,
        tmp_path,
        mixer,
        MixSeq2SeqTrainer,
        Seq2SeqTrainingArguments,
        per_device_train_batch_size=4,
        learning_rate=2e-2,
    )
    assert len(losses) == 20
    assert an4.fell(losses, to=0.9), losses  # from ln 30, guessing, towards the frequencies of the letters: 2.7
