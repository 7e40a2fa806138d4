"""SpeechBrain: mixing where an Augmenter stands, with relative lengths, and its losses for the labels that come out."""

import pickle

import pytest
import speechbrain as sb
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import DropFreq
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.lobes.features import Fbank
from speechbrain.nnet import losses
from torch.nn import functional as F

import randommix_audio as rma
from randommix_audio.integrations.speechbrain import MixAugment, class_loss, ctc_loss, to_frames
from tests.integrations import an4

B, T, BINS, SYMBOLS = 5, 40, 8, 7


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    frames = torch.tensor([40.0, 31, 22, 13, 7])
    return {
        "feats": torch.rand(B, T, BINS) + 1,
        "lens": frames / T,
        "tokens": torch.randint(1, SYMBOLS, (B, 4)),
        "tokens_lens": torch.tensor([1.0, 0.5, 0.75, 0.5, 0.25]),
    }


def mix_of(**arguments):
    return MixAugment(rma.Mixup(layout="BTF", pairing="roll", **arguments))


def log_probs_of(feats):
    return (feats.mean(2, keepdim=True) * torch.linspace(-1, 1, SYMBOLS)).log_softmax(-1)


def expected_ctc(plan, log_probs, batch, lens):
    """Equation 3 of MixSpeech with what SpeechBrain says of each transcript alone."""
    alone = torch.zeros(B)
    for k in range(2):
        tokens, tokens_lens = plan.pair(batch["tokens"], k), plan.pair(batch["tokens_lens"], k)
        each = losses.ctc_loss(log_probs, tokens, lens, tokens_lens, 0, reduction="none")
        alone += plan.transcripts.share[k] * each / to_frames(tokens_lens, 4)
    return alone.mean()


def test_relative_lengths_are_rounded_as_speechbrain_rounds_them():
    frames = torch.arange(1, 101)
    assert torch.equal(to_frames(frames / 100, 100), frames)  # 0.53 * 100 is 52.999996 in float32


def test_it_stands_where_an_augmenter_stands(batch):
    mix = mix_of()
    mixed, lens = mix(batch["feats"], batch["lens"])
    plan = mix.take_plan()
    own = to_frames(batch["lens"], T)
    assert to_frames(lens, T).tolist() == torch.maximum(own, own[plan.sources[1]]).tolist()
    assert lens.dtype == batch["lens"].dtype
    log_probs = log_probs_of(mixed)
    loss = ctc_loss(plan, log_probs, batch["tokens"], lens, batch["tokens_lens"], 0)
    torch.testing.assert_close(loss, expected_ctc(plan, log_probs, batch, lens))


def test_a_plan_is_given_once_so_that_no_later_stage_meets_an_old_one(batch):
    mix = mix_of()
    mix(batch["feats"], batch["lens"])
    assert mix.take_plan() is not None
    assert mix.take_plan() is None


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_without_a_plan_the_loss_is_speechbrains(batch, reduction):
    arguments = log_probs_of(batch["feats"]), batch["tokens"], batch["lens"], batch["tokens_lens"], 0, reduction
    torch.testing.assert_close(ctc_loss(None, *arguments), losses.ctc_loss(*arguments))


@pytest.mark.parametrize("arguments", [{}, {"per": "row", "p": 0.4}])
def test_with_concat_original_the_replicated_labels_meet_the_right_rows(batch, arguments):
    mix = mix_of(**arguments)
    augmenter = Augmenter(concat_original=True, augmentations=[mix])
    feats, lens = augmenter(batch["feats"], batch["lens"])
    plan = mix.take_plan(augmenter)
    tokens, tokens_lens = augmenter.replicate_multiple_labels(batch["tokens"], batch["tokens_lens"])
    log_probs = log_probs_of(feats)
    found = ctc_loss(plan, log_probs, tokens, lens, tokens_lens, 0)

    original = losses.ctc_loss(log_probs[:B], batch["tokens"], batch["lens"], batch["tokens_lens"], 0)
    inner = rma.MixPlan.from_state_dict(plan._plan.state_dict())
    torch.testing.assert_close(found, (original + expected_ctc(inner, log_probs[B:], batch, lens[B:])) / 2)
    assert (feats[:B] == batch["feats"]).all()
    assert plan.lam[:B].tolist() == [1] * B


def test_in_parallel_with_other_augmentations_the_plan_covers_its_own_rows(batch):
    mix = mix_of()
    augmenter = Augmenter(
        parallel_augment=True,
        concat_original=True,
        min_augmentations=3,
        augmentations=[SpectrogramDrop(dim=1), mix, SpectrogramDrop(dim=2)],
    )
    feats, _ = augmenter(batch["feats"], torch.ones(B))
    plan = mix.take_plan(augmenter)
    words = augmenter.replicate_labels(torch.arange(B))
    assert plan.batch == feats.shape[0] == len(words) == 4 * B
    mixed = torch.arange(4 * B) // B == 2
    assert (plan.lam[mixed] < 1).all()
    assert (plan.lam[~mixed] == 1).all()
    assert torch.equal(plan.pair(words)[~mixed], words[~mixed])
    lam = plan.lam[mixed][:, None, None]
    theirs = batch["feats"][plan.pair(words)[mixed]]
    torch.testing.assert_close(feats[mixed], lam * batch["feats"] + (1 - lam) * theirs)


def test_joined_transcripts_survive_the_original_rows_before_them():
    wave, lens = torch.rand(2, 100), torch.tensor([1.0, 0.5])
    mix = MixAugment(rma.TimeConcat(pairing="roll"))
    augmenter = Augmenter(concat_original=True, augmentations=[mix])
    wave, lens = augmenter(wave, lens)
    plan = mix.take_plan(augmenter)
    tokens = augmenter.replicate_labels(torch.tensor([[1, 2], [3, 0]]))
    tokens_lens = augmenter.replicate_labels(torch.tensor([1.0, 0.5]))
    log_probs = torch.randn(4, 20, SYMBOLS).log_softmax(-1)
    found = ctc_loss(plan, log_probs, tokens, lens, tokens_lens, 0, reduction="none")
    wanted = torch.tensor([[1, 2, 0], [3, 0, 0], [1, 2, 3], [3, 1, 2]])
    lengths = torch.tensor([2, 1, 3, 3])
    expected = F.ctc_loss(log_probs.transpose(0, 1), wanted, to_frames(lens, 20), lengths, reduction="none")
    torch.testing.assert_close(found, expected)
    apart = ctc_loss(plan, log_probs, tokens, lens, tokens_lens, 0, reduction="none", separator=4)
    wanted, lengths = torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 4, 3], [3, 4, 1, 2]]), torch.tensor([2, 1, 4, 4])
    expected = F.ctc_loss(log_probs.transpose(0, 1), wanted, to_frames(lens, 20), lengths, reduction="none")
    torch.testing.assert_close(apart, expected)
    assert to_frames(lens, wave.shape[1]).tolist() == [100, 50, 150, 150]


def test_an_augmenter_that_skips_its_augmentations_leaves_no_plan(batch):
    mix = mix_of()
    augmenter = Augmenter(augment_prob=0.0, augmentations=[mix])
    feats, _ = augmenter(batch["feats"], batch["lens"])
    assert feats is batch["feats"]
    assert mix.take_plan(augmenter) is None


@pytest.mark.parametrize(
    "arguments",
    [{"repeat_augment": 2}, {"parallel_augment": True, "shuffle_augmentations": True}],
)
def test_an_augmenter_that_hides_where_the_mixed_rows_are_is_refused(batch, arguments):
    mix = mix_of()
    augmenter = Augmenter(augmentations=[mix], **arguments)
    augmenter(batch["feats"], batch["lens"])
    with pytest.raises(ValueError, match="Augmenter"):
        mix.take_plan(augmenter)


def test_classes_are_scored_with_speechbrains_own_losses(batch):
    mix = mix_of(per="row")
    mixed, _ = mix(batch["feats"], batch["lens"])
    plan = mix.take_plan()
    word = torch.tensor([[0], [3], [2], [1], [6]])
    log_probs = log_probs_of(mixed).mean(1, keepdim=True)
    found = class_loss(plan, losses.nll_loss, log_probs, word, label_smoothing=0.1)
    soft = plan.mix_targets(word[:, 0], num_classes=SYMBOLS)
    smooth = 0.9 * soft + 0.1 / SYMBOLS
    torch.testing.assert_close(found, -(smooth * log_probs[:, 0]).sum(1).mean())
    alone = class_loss(None, losses.nll_loss, log_probs, word)
    torch.testing.assert_close(alone, losses.nll_loss(log_probs, word))


def test_features_need_a_mixer_that_knows_their_axes(batch):
    with pytest.raises(ValueError, match="layout='BTF'"):
        MixAugment(rma.Mixup())(batch["feats"], batch["lens"])


def test_it_pickles(batch):
    mix = pickle.loads(pickle.dumps(mix_of()))
    assert mix(batch["feats"], batch["lens"])[0].shape == batch["feats"].shape


class Recogniser(sb.Brain):
    """CTC as SpeechBrain's recipes write it, and the three lines of mixing."""

    def compute_forward(self, batch, stage):
        batch = batch.to(self.device)
        wavs, lens = batch.wav
        tokens, tokens_lens = batch.tokens
        plan = None
        if stage == sb.Stage.TRAIN:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
            tokens = self.hparams.wav_augment.replicate_labels(tokens)
            tokens_lens = self.hparams.wav_augment.replicate_labels(tokens_lens)
        feats = self.hparams.features(wavs)
        if stage == sb.Stage.TRAIN:
            feats, lens = self.hparams.mix(feats, lens)
            plan = self.hparams.mix.take_plan()
        hidden = self.modules.encoder(feats.transpose(1, 2)).transpose(1, 2)
        return hidden.log_softmax(-1), lens, plan, tokens, tokens_lens

    def compute_objectives(self, predictions, batch, stage):
        log_probs, lens, plan, tokens, tokens_lens = predictions
        loss = ctc_loss(plan, log_probs, tokens, lens, tokens_lens, an4.BLANK)
        (self.hparams.losses if stage == sb.Stage.TRAIN else self.hparams.valid_losses).append(loss.item())
        return loss


def test_a_brain_trains_on_an4_with_relative_lengths(real_data, tmp_path):
    rows = [{"wav": wave, "tokens": torch.tensor(an4.tokens(text))} for _, wave, text in an4.utterances(real_data, 40)]
    batches = SaveableDataLoader(rows, batch_size=8, collate_fn=PaddedBatch)
    encoder = torch.nn.Sequential(
        torch.nn.BatchNorm1d(40),
        torch.nn.Conv1d(40, 64, 5, 4, 2),
        torch.nn.ReLU(),
        torch.nn.Conv1d(64, an4.SYMBOLS, 5, 1, 2),
    )
    hparams = {
        "features": Fbank(n_mels=40),
        "wav_augment": Augmenter(concat_original=True, augmentations=[DropFreq()]),
        "mix": MixAugment(rma.RandomMix(["mixup", "freq_cutmix"], layout="BTF", per="row", p=0.3)),
        "losses": [],
        "valid_losses": [],
    }
    brain = Recogniser({"encoder": encoder}, lambda weights: torch.optim.Adam(weights, 3e-3), hparams)
    brain.fit(range(4), batches, batches, progressbar=False)
    assert len(hparams["losses"]) == 20
    assert an4.fell(hparams["losses"]), hparams["losses"]
    assert torch.tensor(hparams["valid_losses"]).isfinite().all()
