"""SaliencyMix: the box holds the partner's most salient point, and has the area that was drawn."""

import io

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import randommix_audio as rma
from randommix_audio.saliency import LossGradient, SaliencyOfBatch
from tests.mixers.strategies import batches


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def partner_peak(plan: rma.MixPlan, saliency: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Bin and frame of the partner's maximum in the frames where both rows are valid, and how many these are."""
    batch, _, time = saliency.shape
    lengths = torch.full((batch,), time) if lengths is None else lengths
    both = torch.minimum(lengths, lengths[plan.sources[1]])
    peaks = []
    for partner, frames in zip(plan.sources[1], both, strict=True):
        seen = saliency[partner, :, : max(1, int(frames))]
        peaks.append(divmod(int(seen.flatten().argmax()), seen.shape[1]))
    return *torch.tensor(peaks).T, both


@settings(max_examples=150, deadline=None)
@given(batches(), st.sampled_from(["batch", "row"]), st.sampled_from(["default", "official"]), st.integers(0, 1))
def test_a_box_that_is_not_empty_holds_the_partners_peak(drawn, per, variant, kind):
    x, lengths, generator = drawn
    name = ["energy", "spectral_residual"][kind]
    plan = rma.SaliencyMix(per=per, variant=variant, saliency=name).plan(x, lengths, generator=generator)
    saliency = SaliencyOfBatch(x, "BCFT", lengths, name).map()
    bins, frames, both = partner_peak(plan, saliency, lengths)
    first_bin, end_bin, first_frame, end_frame = plan.geometry.corners.unbind(1)
    assert (first_bin >= 0).all()
    assert (first_frame >= 0).all()
    assert (end_bin <= x.shape[2]).all()
    assert (end_frame <= both).all()
    filled = (end_bin > first_bin) & (end_frame > first_frame)
    holds = (first_bin <= bins) & (bins < end_bin) & (first_frame <= frames) & (frames < end_frame)
    assert (holds | ~filled).all()


def test_the_box_is_pasted_from_the_place_where_it_stood():
    x = torch.randn(6, 2, 12, 31)
    mixed, plan = rma.SaliencyMix(per="row", pairing="derangement")(x, generator=seeded())
    for row, (f0, f1, t0, t1) in enumerate(plan.geometry.corners.tolist()):
        expected = x[row].clone()
        expected[:, f0:f1, t0:t1] = x[plan.sources[1, row], :, f0:f1, t0:t1]
        assert torch.equal(mixed[row], expected)


@pytest.mark.parametrize(("freq", "time"), [(32, 32), (40, 98), (1, 100), (80, 1), (7, 5)])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_default_share_is_unbiased_wherever_the_peaks_are(freq, time, alpha):
    x = torch.rand(8000, freq, time, generator=seeded(1))
    lam = rma.SaliencyMix(alpha, per="row").plan(x, generator=seeded()).lam
    assert lam.mean() == pytest.approx(0.5, abs=0.012)
    assert lam.var() >= 0.9 / (4 * (2 * alpha + 1))


@pytest.mark.parametrize(("freq", "time"), [(30, 60), (60, 30)])
def test_the_box_has_the_shape_of_the_picture(freq, time):
    corners = rma.SaliencyMix(per="row").plan(torch.rand(4000, freq, time), generator=seeded()).geometry.corners
    height, width = (corners[:, 1] - corners[:, 0]).float(), (corners[:, 3] - corners[:, 2]).float()
    assert (height / freq - width / time).abs().max() < 1 / freq + 1 / time
    assert height.mean() / freq == pytest.approx(2 / 3, abs=0.02)  # the mean root of a uniform number


def test_the_peak_is_in_the_middle_of_a_box_that_fits_and_the_box_is_shifted_where_it_does_not():
    saliency = torch.zeros(2000, 21, 41)
    saliency[:, 10, 20] = 1
    x = torch.zeros(2000, 21, 41)
    inner = rma.SaliencyMix(per="row").plan(x, saliency=saliency, generator=seeded()).geometry.corners
    assert ((inner[:, 0] + inner[:, 1] - 1) / 2 - 10).abs().max() <= 0.5
    assert ((inner[:, 2] + inner[:, 3] - 1) / 2 - 20).abs().max() <= 0.5
    corner = rma.SaliencyMix(per="row").plan(x, saliency=saliency.roll((10, 20), (1, 2)), generator=seeded())
    assert (corner.geometry.corners[:, 1] == 21)[corner.lam < 1].all()
    assert (corner.geometry.corners[:, 3] == 41)[corner.lam < 1].all()
    torch.testing.assert_close(corner.lam, rma.SaliencyMix(per="row").plan(x, generator=seeded()).lam)


def published_box(lam: float, peak: tuple[int, int], freq: int, time: int) -> tuple[int, int, int, int]:
    """The published procedure: a box of side int(size * sqrt(1 - lam)) around the peak, clipped at the edge."""
    cut_f, cut_t = int(freq * (1 - lam) ** 0.5), int(time * (1 - lam) ** 0.5)
    f, t = peak
    return (
        min(max(f - cut_f // 2, 0), freq),
        min(max(f + cut_f // 2, 0), freq),
        min(max(t - cut_t // 2, 0), time),
        min(max(t + cut_t // 2, 0), time),
    )


@pytest.mark.parametrize(("freq", "time"), [(32, 32), (21, 40), (40, 99)])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_official_boxes_are_those_of_the_published_procedure_around_each_partners_own_peak(freq, time, per):
    x = torch.rand(200, freq, time, generator=seeded(2))
    plan = rma.SaliencyMix(variant="official", per=per).plan(x, generator=seeded())
    generator = seeded()
    assert torch.equal(plan.sources[1], torch.randperm(200, generator=generator))
    lam = torch.rand(200 if per == "row" else 1, generator=generator).expand(200)
    for row in range(200):
        peak = divmod(int(x[plan.sources[1, row]].flatten().argmax()), time)
        f0, f1, t0, t1 = published_box(float(lam[row]), peak, freq, time)
        assert plan.geometry.corners[row].tolist() == [f0, f1, t0, t1]
        assert float(plan.lam[row]) == pytest.approx(1 - (f1 - f0) * (t1 - t0) / (freq * time), abs=1e-6)


def test_the_official_share_is_that_of_cutmix_where_peaks_are_anywhere():
    x = torch.rand(20000, 32, 32, generator=seeded(3))
    assert rma.SaliencyMix(variant="official", per="row").plan(x).lam.mean() == pytest.approx(0.70, abs=0.01)


def test_of_equal_values_the_lowest_bin_then_the_first_frame_is_the_peak():
    saliency = torch.zeros(300, 20, 30)
    saliency[:, [17, 17, 18], [5, 9, 2]] = 1
    plan = rma.SaliencyMix(per="row", alpha=0.3).plan(torch.zeros(300, 20, 30), saliency=saliency, generator=seeded())
    small = (plan.share[1] > 0) & (plan.share[1] < 0.02)
    assert small.sum() > 3
    corners = plan.geometry.corners[small]
    assert ((corners[:, 2] <= 5) & (corners[:, 3] > 5) & (corners[:, 3] <= 9)).all()


def test_per_batch_one_area_is_cut_from_every_row_around_its_own_peak():
    plan = rma.SaliencyMix(per="batch").plan(torch.rand(64, 24, 50), generator=seeded())
    assert len(plan.lam.unique()) == 1
    assert len(plan.geometry.corners.unique(dim=0)) > 30


def test_a_peak_beyond_the_shorter_of_two_rows_is_not_looked_for():
    x = torch.zeros(2, 6, 30)
    x[0, 2, 25], x[0, 4, 7], x[1, 1, 3] = 9, 5, 1
    lengths = torch.tensor([30, 12])
    for seed in range(20):
        plan = rma.SaliencyMix(pairing="roll", per="row").plan(x, lengths, generator=seeded(seed))
        f0, f1, t0, t1 = plan.geometry.corners[1].tolist()
        assert t1 <= 12
        assert (f0 <= 4 < f1 and t0 <= 7 < t1) or f0 == f1 or t0 == t1


def test_rows_without_frames_and_rows_that_are_not_chosen_are_left_alone():
    x = torch.rand(6, 8, 20)
    lengths = torch.tensor([20, 0, 20, 7, 0, 1])
    for variant in ("default", "official"):
        mixed, plan = rma.SaliencyMix(pairing="roll", variant=variant)(x, lengths, generator=seeded())
        for row in (1, 2, 4, 5):
            assert torch.equal(mixed[row], x[row])
            assert plan.share[:, row].tolist() == [1, 0]
        rows = torch.arange(6) == 3
        mixed = rma.SaliencyMix(variant=variant)(x, rows=rows, generator=seeded())[0]
        assert torch.equal(mixed, x)


def test_a_silent_batch_is_cut_as_well():
    plan = rma.SaliencyMix().plan(torch.zeros(4, 8, 20), generator=seeded())
    assert (plan.geometry.corners[:, 0] == 0).all()
    assert (plan.lam < 1).all()


def test_what_the_plan_is_given_counts_before_what_the_mixer_was_made_with():
    x, saliency = torch.rand(40, 12, 30), torch.rand(40, 12, 30)
    plan = rma.SaliencyMix(per="row", saliency="spectral_residual").plan(x, saliency=saliency, generator=seeded())
    bins, frames, _ = partner_peak(plan, saliency, None)
    first_bin, end_bin, first_frame, end_frame = plan.geometry.corners.unbind(1)
    filled = (end_bin > first_bin) & (end_frame > first_frame)
    assert ((first_bin <= bins) & (bins < end_bin) & (first_frame <= frames) & (frames < end_frame))[filled].all()


@pytest.mark.parametrize("layout", ["BFT", "BTF"])
def test_the_gradient_of_a_loss_is_followed_in_any_layout_and_the_plan_is_replayed_without_the_model(layout):
    x = torch.randn(6, 12, 12)  # a square, so that a wrong order of axes would pass unnoticed
    weight = torch.rand(12, 12)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 1, bias=False))
    model[1].weight.data[0] = (weight if layout == "BFT" else weight.T).flatten()
    gradient = LossGradient(model, lambda z, _: z.sum(), None)
    batch = x if layout == "BFT" else x.mT
    mixed, plan = rma.SaliencyMix(per="row", layout=layout)(batch, saliency=gradient, generator=seeded())
    peak = divmod(int(weight.argmax()), 12)
    first_bin, end_bin, first_frame, end_frame = plan.geometry.corners.unbind(1)
    filled = (end_bin > first_bin) & (end_frame > first_frame)
    assert filled.any()
    assert ((first_bin <= peak[0]) & (peak[0] < end_bin) & (first_frame <= peak[1]) & (peak[1] < end_frame))[
        filled
    ].all()
    file = io.BytesIO()
    torch.save(plan.state_dict(), file)
    file.seek(0)
    again = rma.MixPlan.from_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.apply(batch), mixed)


def test_as_a_candidate_each_row_follows_its_own_partner():
    x = torch.rand(64, 12, 30)
    mixer = rma.RandomMix(["saliencymix", "mixup"], per="row", pairing="derangement")
    plan = mixer.plan(x, generator=seeded())
    bins, frames, _ = partner_peak(plan, x, None)
    weights = plan.weights[1].expand(64, 1, 12, 30)
    for row, method in enumerate(plan.method):
        if method == "saliencymix" and plan.share[1, row] > 0:
            assert weights[row, 0, bins[row], frames[row]] == 1


def test_in_a_training_step_the_gradient_leads_the_mix():
    torch.manual_seed(0)
    x, target = torch.randn(16, 8, 20), torch.randint(0, 3, (16,))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(160), torch.nn.Linear(160, 3))
    x, plan = rma.SaliencyMix()(x, saliency=LossGradient(model, F.cross_entropy, target))
    loss = plan.loss(F.cross_entropy, model(x), target)
    loss.backward()
    assert int(model[1].num_batches_tracked) == 1, "the pass for saliency leaves the statistics alone"
    assert all(p.grad is not None for p in model.parameters())


def test_of_real_words_the_loudest_moment_is_pasted(real_data):
    import soundfile

    files = [f for word in ("yes", "stop") for f in sorted((real_data / "speech_commands" / word).iterdir())[:16]]
    waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]
    lengths = torch.tensor([len(wave) for wave in waves])
    x, frames = rma.LogMel.preset("kaldi")(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    mixed, plan = rma.SaliencyMix(per="row", pairing="roll")(x, frames, generator=seeded())
    for row in range(len(files)):
        both = min(frames[row], frames[plan.sources[1, row]])
        partner = x[plan.sources[1, row], :, :both]
        if plan.share[1, row] > 0:
            assert mixed[row, :, :both].flatten()[partner.flatten().argmax()] == partner.max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"saliency": "gradient"}, "saliency must be one of energy, spectral_residual; got 'gradient'"),
        ({"variant": "paper"}, "variant must be one of"),
        ({"alpha": 0}, "alpha must be a number above 0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rma.SaliencyMix(**arguments)
