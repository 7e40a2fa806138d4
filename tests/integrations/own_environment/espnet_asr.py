"""ESPnet2 in an environment of its own: `make test-toolkits`. Not collected by `make test`."""

import pytest
import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.transformer_decoder import TransformerDecoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.utterance_mvn import UtteranceMVN

import randommix_audio as rma
from randommix_audio.integrations.espnet import RandomMixASRMixin

TOKENS = ["<blank>", "<unk>", *"ABCDEFGHIJ", "<sos/eos>"]


class MixedASRModel(RandomMixASRMixin, ESPnetASRModel):
    pass


def model_of(**arguments):
    torch.manual_seed(0)
    off = {"dropout_rate": 0.0, "positional_dropout_rate": 0.0}
    encoder = TransformerEncoder(24, 16, 2, 32, 1, attention_dropout_rate=0.0, **off)
    decoder = TransformerDecoder(
        len(TOKENS), 16, 2, 32, 1, self_attention_dropout_rate=0.0, src_attention_dropout_rate=0.0, **off
    )
    parts = {
        "vocab_size": len(TOKENS),
        "token_list": TOKENS,
        "frontend": DefaultFrontend(fs=16000, n_fft=400, hop_length=160, n_mels=24),
        "specaug": None,
        "normalize": UtteranceMVN(),
        "preencoder": None,
        "encoder": encoder,
        "postencoder": None,
        "decoder": decoder,
        "ctc": CTC(len(TOKENS), 16, dropout_rate=0.0),
        "joint_network": None,
        "ctc_weight": 0.3,
        "report_cer": False,
        "report_wer": False,
    }
    return MixedASRModel(**(parts | arguments)).train()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    samples, symbols = torch.tensor([16000, 14000, 12000, 9000]), torch.tensor([5, 2, 4, 3])
    text = torch.randint(2, 12, (4, 5)).masked_fill(torch.arange(5) >= symbols[:, None], -1)
    speech = torch.randn(4, 16000) * (torch.arange(16000) < samples[:, None]) / 10
    return {"speech": speech, "speech_lengths": samples, "text": text, "text_lengths": symbols}


def copied(batch):
    return {name: value.clone() for name, value in batch.items()}


@pytest.mark.parametrize("length_normalized_loss", [False, True])
@pytest.mark.parametrize("lsm_weight", [0.0, 0.1])
def test_a_batch_that_is_not_mixed_has_the_models_own_gradient(batch, lsm_weight, length_normalized_loss):
    model = model_of(lsm_weight=lsm_weight, length_normalized_loss=length_normalized_loss)
    own, own_stats, _ = model(**copied(batch))
    expected = torch.autograd.grad(own, list(model.parameters()), allow_unused=True)
    model.use_mixer(rma.NoMix(layout="BTF"))
    found, stats, weight = model(**copied(batch))
    assert weight == 4
    torch.testing.assert_close(stats["loss_ctc"], own_stats["loss_ctc"])
    if not lsm_weight:
        torch.testing.assert_close(found, own)
    for one, other in zip(
        torch.autograd.grad(found, list(model.parameters()), allow_unused=True), expected, strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_mixed_row_is_scored_against_both_transcripts(batch):
    model, drawn = model_of(normalize=None), []
    mixer = rma.Mixup(layout="BTF", pairing="roll", per="row")
    mixer.register_forward_hook(lambda _, __, out: drawn.append(out))
    model.use_mixer(mixer)
    batch["speech_lengths"][:] = 16000  # ESPnet's subsampling gives a row other frames alone than beside longer ones
    _, found, _ = model(**copied(batch))
    model.use_mixer(None)
    model.frontend = None  # the mixed features themselves are the input now
    (x, plan), expected = drawn[0], {"loss_att": 0.0, "loss_ctc": 0.0}
    for k in range(2):
        for row, source in enumerate(plan.sources[k].tolist()):
            symbols = batch["text_lengths"][source : source + 1]
            text = batch["text"][source : source + 1, : symbols[0]].clone()
            _, losses, _ = model(x[row : row + 1], plan.lengths[row : row + 1], text, symbols)
            for name in expected:
                expected[name] += plan.transcripts.share[k, row] * losses[name] / 4
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=1e-4)


def test_evaluation_is_the_models_own(batch):
    model = model_of()
    model.use_mixer(rma.Mixup(layout="BTF"))
    _, stats, _ = model.eval()(**copied(batch))
    assert stats["acc"] is not None


def test_it_trains(batch):
    model = model_of(lsm_weight=0.1)
    model.use_mixer(rma.RandomMix(["mixup", "freq_cutmix"], layout="BTF", per="row", p=0.5))
    optimizer, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(20):
        loss = model(**copied(batch))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4]), losses


def test_branches_that_are_not_supported_are_refused():
    with pytest.raises(ValueError, match="intermediate CTC"):
        model_of(interctc_weight=0.5).use_mixer(rma.Mixup(layout="BTF"))
