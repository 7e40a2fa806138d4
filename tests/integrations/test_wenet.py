"""WeNet is not on PyPI: its mixin is tried on a stand-in with the published names and signatures of `ASRModel`."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import randommix_audio as rma
from randommix_audio.integrations.wenet import RandomMixASRMixin

SYMBOLS, IGNORED, WIDTH = 11, -1, 8
CPU = torch.device("cpu")


class Encoder(nn.Module):
    """Halves the frames; gives a mask (B, 1, T')."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, WIDTH)

    def forward(self, x, lengths):
        mask = torch.arange(x.shape[1])[None, None, ::2] < lengths[:, None, None]
        return self.layer(x[:, ::2]), mask


class Ctc(nn.Module):
    """Blank 0; the sum divided by the rows."""

    def __init__(self):
        super().__init__()
        self.ctc_lo, self.dropout_rate = nn.Linear(WIDTH, SYMBOLS), 0.0

    def forward(self, x, lengths, text, text_lengths):
        log_probs = self.ctc_lo(x).log_softmax(-1)
        loss = F.ctc_loss(log_probs.transpose(0, 1), text.clamp(min=0), lengths, text_lengths, reduction="sum")
        return loss / len(x), log_probs


class OneWay(nn.Module):
    """Reads the symbols before, and the mean of the valid frames."""

    def __init__(self):
        super().__init__()
        self.symbols, self.out = nn.Embedding(SYMBOLS, WIDTH), nn.Linear(WIDTH, SYMBOLS)

    def forward(self, memory, mask, text, lengths, *_):
        valid = mask.transpose(1, 2).to(memory.dtype)
        context = (memory * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        before = self.symbols(text).cumsum(1)  # position u has read the symbols up to u
        return self.out(torch.tanh(before + context)), torch.tensor(0.0), lengths


class BothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.left_decoder, self.right_decoder = OneWay(), OneWay()

    def forward(self, memory, mask, text, lengths, reversed_text, reverse_weight):
        left, *_ = self.left_decoder(memory, mask, text, lengths)
        right = self.right_decoder(memory, mask, reversed_text, lengths)[0] if reverse_weight > 0 else torch.tensor(0.0)
        return left, right, lengths


class Smoothed(nn.Module):
    """Cross entropy, where smoothing is divided among the other symbols."""

    def __init__(self, smoothing, normalize_length):
        super().__init__()
        self.smoothing, self.normalize_length = smoothing, normalize_length

    def forward(self, logits, target):
        others = self.smoothing / (SYMBOLS - 1)
        wanted = F.one_hot(target.clamp(min=0), SYMBOLS) * (1 - self.smoothing - others) + others
        losses = -(wanted * logits.log_softmax(-1)).sum(-1) * (target != IGNORED)
        return losses.sum() / ((target != IGNORED).sum() if self.normalize_length else len(logits))


class ASRModel(nn.Module):
    """Names and signatures of wenet.models.transformer.asr_model.ASRModel."""

    def __init__(self, ctc_weight=0.3, reverse_weight=0.0, smoothing=0.0, normalize_length=False):
        super().__init__()
        self.vocab_size, self.sos, self.eos, self.ignore_id = SYMBOLS, SYMBOLS - 1, SYMBOLS - 1, IGNORED
        self.ctc_weight, self.reverse_weight, self.apply_non_blank_embedding = ctc_weight, reverse_weight, False
        self.encoder, self.ctc, self.decoder = Encoder(), Ctc(), BothWays()
        self.criterion_att = Smoothed(smoothing, normalize_length)

    def forward(self, batch, device):
        text, lengths = batch["target"], batch["target_lengths"]
        encoded, mask = self.encoder(batch["feats"], batch["feats_lengths"])
        ctc, _ = self.ctc(encoded, mask.squeeze(1).sum(1), text, lengths)
        rows = [row[:n] for row, n in zip(text, lengths, strict=True)]
        forward, backward = self._with_ends(rows), self._with_ends([row.flip(0) for row in rows])
        left, right, _ = self.decoder(encoded, mask, forward[0], lengths + 1, backward[0], self.reverse_weight)
        attention = self.criterion_att(left, forward[1])
        if self.reverse_weight:
            other = self.criterion_att(right, backward[1])
            attention = (1 - self.reverse_weight) * attention + self.reverse_weight * other
        loss = self.ctc_weight * ctc + (1 - self.ctc_weight) * attention
        return {"loss": loss, "loss_att": attention, "loss_ctc": ctc, "th_accuracy": torch.tensor(0.5)}

    def _with_ends(self, rows):
        ends = torch.tensor([self.eos])
        read, wanted = [torch.cat([ends, row]) for row in rows], [torch.cat([row, ends]) for row in rows]
        pad = nn.utils.rnn.pad_sequence
        return pad(read, batch_first=True, padding_value=self.eos), pad(wanted, batch_first=True, padding_value=IGNORED)


class MixedASRModel(RandomMixASRMixin, ASRModel):
    pass


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    frames, symbols = torch.tensor([60, 51, 40, 36], dtype=torch.int32), torch.tensor([5, 2, 4, 1], dtype=torch.int32)
    text = torch.randint(1, SYMBOLS - 1, (4, 5)).masked_fill(torch.arange(5) >= symbols[:, None], IGNORED)
    feats = torch.randn(4, 60, 8) * (torch.arange(60) < frames[:, None])[..., None]
    return {"feats": feats, "feats_lengths": frames, "target": text, "target_lengths": symbols}


SETTINGS = [
    {},
    {"reverse_weight": 0.3},
    {"smoothing": 0.1, "normalize_length": True},
    {"reverse_weight": 0.3, "smoothing": 0.1},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_batch_that_is_not_mixed_has_the_models_own_losses(batch, settings):
    model = MixedASRModel(**settings).train()
    own = model(batch, CPU)
    model.use_mixer(rma.NoMix(layout="BTF"))
    found = model(batch, CPU)
    assert found["th_accuracy"] is None
    for name in ("loss", "loss_att", "loss_ctc"):
        torch.testing.assert_close(found[name], own[name])


@pytest.mark.parametrize("settings", [{}, {"reverse_weight": 0.3, "smoothing": 0.1}])
def test_a_mixed_row_is_scored_against_both_transcripts(batch, settings):
    model, drawn = MixedASRModel(**settings).train(), []
    mixer = rma.Mixup(layout="BTF", pairing="roll", per="row")
    mixer.register_forward_hook(lambda _, __, out: drawn.append(out))
    model.use_mixer(mixer)
    found = model(batch, CPU)
    model.use_mixer(None)
    (x, plan), expected = drawn[0], {"loss_att": 0.0, "loss_ctc": 0.0}
    for k in range(2):
        for row, source in enumerate(plan.sources[k].tolist()):
            symbols = batch["target_lengths"][source : source + 1]
            alone = {
                "feats": x[row : row + 1],
                "feats_lengths": plan.lengths[row : row + 1],
                "target": batch["target"][source : source + 1, : symbols[0]],
                "target_lengths": symbols,
            }
            losses = model(alone, CPU)
            for name in expected:
                expected[name] += plan.transcripts.share[k, row] * losses[name] / 4
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss)


def test_evaluation_is_the_models_own(batch):
    model = MixedASRModel()
    model.use_mixer(rma.Mixup(layout="BTF"))
    assert model.eval()(batch, CPU)["th_accuracy"] is not None


def test_the_mixer_is_no_part_of_what_is_stored(batch):
    model = MixedASRModel()
    model.use_mixer(rma.Mixup(layout="BTF"))
    assert model.state_dict().keys() == ASRModel().state_dict().keys()
    assert "mixer" not in repr(model)
    assert pickle.loads(pickle.dumps(model))(batch, CPU)["th_accuracy"] is None


def test_what_cannot_be_mixed_is_refused(batch):
    model = MixedASRModel().train()
    model.use_mixer(rma.Mixup())
    with pytest.raises(ValueError, match="layout='BTF'"):
        model(batch, CPU)
    model.use_mixer(rma.TimeConcat(layout="BTF"))
    with pytest.raises(ValueError, match="joins transcripts"):
        model(batch, CPU)
    model.apply_non_blank_embedding = True
    with pytest.raises(ValueError, match="apply_non_blank_embedding"):
        model(batch, CPU)
