"""transformers: Trainers of CTC, Whisper and classifiers, on mixed batches and never on soft labels."""

import pickle

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

import randommix_audio as rma
from randommix_audio.integrations.transformers import RandomMixTrainerMixin, mix_inputs, mixed_loss
from tests.integrations import an4

VOCABULARY = 12


class MixTrainer(RandomMixTrainerMixin, Trainer):
    pass


class MixSeq2SeqTrainer(RandomMixTrainerMixin, Seq2SeqTrainer):
    pass


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def whisper(vocabulary=VOCABULARY, source_positions=20, **arguments):
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=80,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        d_model=16,
        max_source_positions=source_positions,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
        **arguments,
    )
    return WhisperForConditionalGeneration(config)


def wav2vec2(kind=Wav2Vec2ForCTC, vocabulary=VOCABULARY, stride=(5, 4), **arguments):
    config = Wav2Vec2Config(
        vocab_size=vocabulary,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16, 16),
        conv_kernel=(10, 8),
        conv_stride=stride,
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        mask_time_prob=0.0,
        layerdrop=0.0,
        pad_token_id=0,
        **arguments,
    )
    return kind(config)


def ast():
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_mel_bins=24,
        max_length=64,
        num_labels=5,
    )
    return ASTForAudioClassification(config)


LABELS = torch.tensor([[3, 4, 5], [6, 7, -100], [8, 9, 3]])


def whisper_inputs(rows=3):
    return {"input_features": torch.randn(rows, 80, 40)}


def wave_inputs():
    samples = torch.tensor([800, 600, 500])
    mask = (torch.arange(800) < samples[:, None]).long()
    return {"input_values": torch.randn(3, 800) * mask, "attention_mask": mask}


# ---- the losses themselves


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_ctc_of_a_batch_that_is_not_mixed_is_the_models_own(reduction):
    model, inputs = wav2vec2(ctc_loss_reduction=reduction).eval(), wave_inputs()
    kept, plan = mix_inputs(model, inputs, rma.NoMix())
    assert torch.equal(kept["attention_mask"], inputs["attention_mask"])
    loss, outputs = mixed_loss(model, kept, LABELS, plan)
    assert outputs.loss is None
    torch.testing.assert_close(loss, model(**inputs, labels=LABELS).loss)
    padded_with_blank = LABELS.clamp(min=0)
    torch.testing.assert_close(mixed_loss(model, kept, padded_with_blank, plan)[0], loss)


def test_ctc_scores_the_mix_against_both_transcripts_over_the_frames_of_the_mix():
    model = wav2vec2(ctc_loss_reduction="mean").eval()
    inputs, plan = mix_inputs(model, wave_inputs(), rma.Mixup(pairing="roll", per="row"))
    own = torch.tensor([800, 600, 500])
    assert torch.equal(inputs["attention_mask"].sum(-1), torch.maximum(own, own[plan.sources[1]]))
    found, _ = mixed_loss(model, inputs, LABELS, plan)
    share = plan.transcripts.share
    expected = 0.0
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        for k in range(2):
            label = LABELS[plan.sources[k, row]][None]
            expected += share[k, row] * model(**one, labels=label).loss / 3
    torch.testing.assert_close(found, expected)


def test_joined_waves_are_scored_against_joined_transcripts():
    model = wav2vec2(ctc_loss_reduction="mean").eval()
    inputs, plan = mix_inputs(model, wave_inputs(), rma.TimeConcat(pairing="roll"))
    own, partner = torch.tensor([800, 600, 500]), plan.sources[1]
    assert torch.equal(inputs["attention_mask"].sum(-1), own + own[partner])
    assert inputs["attention_mask"].shape == inputs["input_values"].shape
    spoken = [row[row >= 0] for row in LABELS]
    for between in ([], [3]):
        found, _ = mixed_loss(model, inputs, LABELS, plan, separator=next(iter(between), None))
        said = [torch.cat([spoken[i], LABELS.new_tensor(between), spoken[j]]) for i, j in enumerate(partner)]
        joined = torch.nn.utils.rnn.pad_sequence(said, batch_first=True, padding_value=-100)
        torch.testing.assert_close(found, model(**inputs, labels=joined).loss)


def test_a_model_inside_peft_is_found():
    class Adapted(torch.nn.Module):  # the part of peft.PeftModel that counts here
        def __init__(self, model):
            super().__init__()
            self.model = model

        def get_base_model(self):
            return self.model

        def forward(self, **inputs):
            return self.model(**inputs)

    model = wav2vec2().eval()
    inputs, plan = mix_inputs(Adapted(model), wave_inputs(), rma.Mixup())
    found, _ = mixed_loss(Adapted(model), inputs, LABELS, plan)
    torch.testing.assert_close(found, mixed_loss(model, inputs, LABELS, plan)[0])


def test_whisper_runs_its_encoder_once_and_its_decoder_again_for_the_mixed_rows_alone():
    model = whisper().eval()
    inputs, plan = mix_inputs(model, whisper_inputs(), rma.Mixup(per="row", p=0.67, pairing="roll"))
    rows = {"encoder": [], "decoder": []}
    model.model.encoder.register_forward_hook(lambda _, __, out: rows["encoder"].append(out[0].shape[0]))
    model.model.decoder.register_forward_hook(lambda _, __, out: rows["decoder"].append(out[0].shape[0]))
    found, _ = mixed_loss(model, inputs, LABELS, plan)
    assert rows == {"encoder": [3], "decoder": [3, 2]}

    logits = [model(**inputs, labels=plan.pair(LABELS, k).clone()).logits for k in range(2)]
    sums = tokens = 0.0
    for k in range(2):
        label = plan.pair(LABELS, k)
        each = F.cross_entropy(logits[k].transpose(1, 2), label, reduction="none").sum(1)
        sums = sums + plan.transcripts.share[k] @ each
        tokens = tokens + plan.transcripts.share[k] @ (label != -100).sum(1).float()
    torch.testing.assert_close(found, sums / tokens)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_whisper_not_mixed_has_the_loss_that_the_trainer_takes(smoothing, tmp_path):
    model = whisper().eval()
    inputs, plan = mix_inputs(model, whisper_inputs(), rma.NoMix())
    arguments = TrainingArguments(tmp_path, label_smoothing_factor=smoothing, use_cpu=True, report_to="none")
    decoder_input_ids = torch.tensor([[1, 3, 4], [1, 6, 7], [1, 8, 9]])  # which label smoothing needs of the collator
    inputs["decoder_input_ids"] = decoder_input_ids
    expected = Trainer(model, arguments).compute_loss(model, {**inputs, "labels": LABELS})
    torch.testing.assert_close(mixed_loss(model, inputs, LABELS, plan, smoothing)[0], expected)


@pytest.mark.parametrize("p", [0.0, 0.67])
def test_under_ddp_the_gradients_of_both_decoder_passes_arrive(p, one_process_group):
    model, plain = whisper(), whisper()
    plain.load_state_dict(model.state_dict())
    inputs, plan = mix_inputs(model, whisper_inputs(), rma.Mixup(per="row", p=p, pairing="roll"))
    wrapped = DistributedDataParallel(model)
    for run in (wrapped, plain):
        for _ in range(2):  # DDP rearranges itself after the first step
            run.zero_grad()
            mixed_loss(run, inputs, LABELS, plan)[0].backward()
    for (name, found), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, msg=name)


@pytest.fixture
def one_process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_a_classifier_never_sees_a_label_and_keeps_its_loss():
    model = ast().eval()
    word = torch.tensor([0, 4, 2])
    x = torch.randn(3, 64, 24)
    inputs, plan = mix_inputs(model, {"input_values": x}, rma.RandomMix(layout="BTF", per="row"))
    found, outputs = mixed_loss(model, inputs, word, plan, label_smoothing=0.1)
    soft = plan.mix_targets(word, num_classes=5)
    torch.testing.assert_close(found, F.cross_entropy(outputs.logits, soft, label_smoothing=0.1))
    assert model.config.problem_type is None
    # the loss that a soft label would have got instead
    wrong = model(**inputs, labels=soft)
    assert model.config.problem_type == "multi_label_classification"
    assert (wrong.loss - found).abs() > 0.1


def test_several_labels_of_a_clip_are_scored_one_by_one():
    model = ast().eval()
    several = torch.tensor([[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 1, 1, 0]])
    inputs, plan = mix_inputs(model, {"input_values": torch.randn(3, 64, 24)}, rma.Mixup(layout="BTF"))
    found, outputs = mixed_loss(model, inputs, several, plan)
    expected = F.binary_cross_entropy_with_logits(outputs.logits, plan.mix_targets(several))
    torch.testing.assert_close(found, expected)


def test_a_wave_classifier_pools_over_the_frames_of_the_mix():
    model = wav2vec2(Wav2Vec2ForSequenceClassification, num_labels=4).eval()
    word = torch.tensor([0, 3, 2])
    inputs, plan = mix_inputs(model, wave_inputs(), rma.Mixup(pairing="roll"))
    found, _ = mixed_loss(model, inputs, word, plan)
    expected = plan.loss(F.cross_entropy, model(**inputs).logits, word)
    torch.testing.assert_close(found, expected)


# ---- what is refused


def test_features_need_a_mixer_that_knows_their_axes():
    with pytest.raises(ValueError, match="layout='BTF'"):
        mix_inputs(ast(), {"input_values": torch.randn(3, 64, 24)}, rma.Mixup())
    with pytest.raises(ValueError, match="layout='BFT'"):
        mix_inputs(whisper(), whisper_inputs(), rma.Mixup(layout="BTF"))


def test_methods_that_cover_transcripts_are_refused_with_their_name():
    model = whisper()
    inputs, plan = mix_inputs(model, whisper_inputs(), rma.CutMix())
    with pytest.raises(ValueError, match="cutmix covers"):
        mixed_loss(model, inputs, LABELS, plan)


def test_losses_that_cannot_be_mixed_are_refused(tmp_path):
    ctc, inputs = wav2vec2(), wave_inputs()
    inputs, plan = mix_inputs(ctc, inputs, rma.Mixup())
    with pytest.raises(ValueError, match="label smoothing"):
        mixed_loss(ctc, inputs, LABELS, plan, label_smoothing=0.1)
    regression = wav2vec2(Wav2Vec2ForSequenceClassification, num_labels=1)
    with pytest.raises(ValueError, match="regression"):
        mixed_loss(regression, inputs, torch.randn(3), plan)
    with pytest.raises(ValueError, match="input_features or input_values"):
        mix_inputs(ctc, {"input_ids": LABELS}, rma.Mixup())
    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match="compute_loss_func"):
        MixTrainer(ctc, arguments, mixer=rma.Mixup(), compute_loss_func=lambda *_: None)


# ---- Trainers


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
