"""transformers: the losses of CTC, Whisper and classifiers on mixed batches, never on soft labels."""

import pytest
import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    Trainer,
    TrainingArguments,
    Wav2Vec2ForSequenceClassification,
)

import randommix_audio as rma
from randommix_audio.integrations.transformers import mix_inputs, mixed_loss
from tests.integrations.transformers_models import MixTrainer, ast, wav2vec2, whisper


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


LABELS = torch.tensor([[3, 4, 5], [6, 7, -100], [8, 9, 3]])


def whisper_inputs(rows=3):
    return {"input_features": torch.randn(rows, 80, 40)}


def wave_inputs():
    samples = torch.tensor([800, 600, 500])
    mask = (torch.arange(800) < samples[:, None]).long()
    return {"input_values": torch.randn(3, 800) * mask, "attention_mask": mask}


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
