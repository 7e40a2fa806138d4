import pytest
import torch
from torch import nn

from randommix_audio import LogMel
from randommix_audio.evaluation import (
    GROUPS,
    SpeechSet,
    evaluate,
    fgsm,
    gained,
    row_keys,
    speech_conditions,
    zero_blocks,
)

RATE = 4000
FRONT_END = LogMel(RATE, n_fft=256, hop_length=250, n_mels=12, log="db")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(1), nn.Linear(12 * 17, 3), nn.Dropout(0.9)).train()


def clips(rows: int = 11, noise: bool = True) -> SpeechSet:
    generator = torch.Generator().manual_seed(1)
    envelope = torch.sin(torch.linspace(0, 9, RATE)).clamp(min=0)
    wave = 0.2 * torch.randn(rows, RATE, generator=generator) * envelope
    background = [torch.randn(size, generator=generator) for size in (9000, 700)] if noise else []
    return SpeechSet(
        (32768 * wave).clamp(-32768, 32767).short(), torch.arange(rows) % 3, torch.arange(rows) % 4, background
    )


def trained() -> nn.Module:
    """A network that knows the clips by heart, so that damage shows."""
    model, whole = network(), clips()
    model[3].p = 0.0
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x = FRONT_END(whole.wave)[:, None]
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), whole.target).backward()
        optimizer.step()
    return model


def test_a_result_depends_neither_on_batch_size_nor_on_a_second_run():
    model, every = trained(), speech_conditions([*GROUPS, "vorbis"])
    whole = evaluate(FRONT_END, model, clips(), every, batch_size=11)
    assert evaluate(FRONT_END, model, clips(), every, batch_size=4) == whole
    assert evaluate(FRONT_END, model, clips(), every, batch_size=11) == whole
    assert evaluate(FRONT_END, model, clips(), every, batch_size=11, seed=1)["conditions"] != whole["conditions"]
    assert model.training
    assert model[3].training


class Recorder(nn.Module):
    """Keeps what it is shown and is always sure of class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach())
        logits = torch.zeros(len(x), 3)
        logits[:, 0] = 1
        return logits + 0 * (x * self.weight).mean((1, 2, 3))[:, None]


def test_a_part_of_a_set_with_its_numbers_is_damaged_as_it_is_in_the_whole():
    whole, part = clips(), torch.tensor([9, 2, 5])
    groups = [name for name in GROUPS if name != "babble" and "fgsm" not in name]  # babble hears the whole set
    all_seen, part_seen = Recorder(), Recorder()
    evaluate(FRONT_END, all_seen, whole, speech_conditions(groups))
    some = SpeechSet(whole.wave[part], whole.target[part], whole.speaker[part], whole.background, part)
    evaluate(FRONT_END, part_seen, some, speech_conditions(groups), batch_size=2)
    paired = [torch.cat(part_seen.seen[i :: len(all_seen.seen)]) for i in range(len(all_seen.seen))]
    for x, y in zip(all_seen.seen, paired, strict=True):
        torch.testing.assert_close(x[part], y, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("order", ["part", "turned"])
def test_babble_of_a_part_or_of_clips_in_another_order_is_that_of_the_whole(order):
    whole, babble = clips(), speech_conditions(["babble"])
    rows = torch.tensor([9, 2, 5]) if order == "part" else torch.arange(11).flip(0)
    other = whole.part(rows)
    if order == "turned":
        other.voices = None  # it is heard itself, its clips in the order of their numbers
    seen, others = Recorder(), Recorder()
    evaluate(FRONT_END, seen, whole, babble)
    evaluate(FRONT_END, others, other, babble)
    for x, y in zip(seen.seen, others.seen, strict=True):
        torch.testing.assert_close(x[rows], y, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_whole_numbers_that_are_not_16_bits_are_refused_because_nobody_knows_their_scale(dtype):
    whole = clips()
    with pytest.raises(ValueError, match="wave and background must be int16 or float"):
        SpeechSet(whole.wave.to(dtype), whole.target)
    with pytest.raises(ValueError, match="wave and background must be int16 or float"):
        SpeechSet(whole.wave, whole.target, None, [whole.wave[0].to(dtype)])


def test_every_condition_but_clean_changes_what_the_network_sees():
    recorder = Recorder()
    chosen = speech_conditions([group for group in GROUPS if "fgsm" not in group])
    evaluate(FRONT_END, recorder, clips(), chosen)
    clean, *damaged = recorder.seen
    torch.testing.assert_close(clean[:, 0], FRONT_END(clips().wave))
    names = [condition.name for condition in chosen[1:]]
    same = [name for name, x in zip(names, damaged, strict=True) if torch.allclose(x, clean)]
    # Nothing of a clip at 4000 Hz lies above 2000 Hz
    assert same == ["low_pass_4000", "low_pass_3000", "low_pass_2000"]
    for i, x in enumerate(damaged):
        assert not any(torch.equal(x, other) for other in damaged[:i] if not torch.allclose(other, clean))


def test_conditions_are_what_the_functions_do():
    recorder, whole = Recorder(), clips()
    wave, x = whole.wave.float() / 32768, FRONT_END(whole.wave)[:, None]
    chosen = [c for c in speech_conditions() if c.name in ("quieter_-20", "time_occlusion_0.3", "freq_occlusion_0.5")]
    evaluate(FRONT_END, recorder, whole, chosen)
    torch.testing.assert_close(recorder.seen[0][:, 0], FRONT_END(gained(wave, -20)))
    keys = row_keys(0, "time_occlusion", torch.arange(11))
    torch.testing.assert_close(recorder.seen[1], zero_blocks(x, keys, size=(1, 0.3), fill=FRONT_END.pad_value))
    keys = row_keys(0, "freq_occlusion", torch.arange(11))
    torch.testing.assert_close(recorder.seen[2], zero_blocks(x, keys, size=(0.5, 1), fill=FRONT_END.pad_value))


@pytest.mark.parametrize("log, unit", [("db", 1.0), ("log10", 0.1)])
def test_fgsm_steps_by_decibels_on_features_and_by_amplitude_on_waves(log, unit):
    front_end, model, whole = LogMel(RATE, n_fft=256, hop_length=250, n_mels=12, log=log), network(), clips()
    shown: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda module, x: shown.append(x[0].detach()))
    chosen = [c for c in speech_conditions() if c.name in ("fgsm_features_2.5", "fgsm_wave_0.003")]
    evaluate(front_end, model, whole, chosen)
    clean, attacked, _, by_wave = shown  # each gradient looks at the model once
    torch.testing.assert_close((attacked - clean).abs(), torch.full_like(clean, 2.5 * unit))
    wave, target = whole.wave.float() / 32768, whole.target
    both = nn.Sequential(front_end, nn.Unflatten(1, (1, -1)), model)
    torch.testing.assert_close(
        by_wave[:, 0], front_end(fgsm(both, wave, target, 0.003, low=-1.0)), rtol=1e-4, atol=1e-3
    )


def test_the_means_are_those_of_their_conditions():
    found = evaluate(FRONT_END, trained(), clips())
    errors = {name: row["error"] for name, row in found["conditions"].items()}
    assert all(round(11 * error, 6).is_integer() for error in errors.values())

    def mean(*groups: str) -> float:
        values = [row["error"] for row in found["conditions"].values() if row["group"] in groups]
        return sum(values) / len(values)

    assert found["clean_error"] == errors["clean"]
    assert found["noise_error"] == pytest.approx(mean("white", "pink", "background", "babble"))
    assert found["occlusion_error"] == pytest.approx(mean("time_occlusion", "freq_occlusion", "block_occlusion"))
    assert found["fgsm_error"] == pytest.approx(mean("fgsm_features", "fgsm_wave"))
    assert found["groups"] == {group: pytest.approx(mean(group)) for group in GROUPS}
    assert len({round(found[f"{kind}_error"], 6) for kind in ("noise", "occlusion", "fgsm")}) == 3
    kinds = {"clean": 1, "noise": 24, "occlusion": 11, "fgsm": 6}  # how many conditions there are of each
    for kind, times in kinds.items():
        assert sum(found["mistakes"][kind]) / 11 / times == pytest.approx(found[f"{kind}_error"])
    assert (found["clips"], found["seed"]) == (11, 0)


def test_the_error_is_the_share_of_wrong_answers_and_a_mean_of_nothing_is_none():
    found = evaluate(FRONT_END, Recorder(), clips(), speech_conditions(["mu_law"]), batch_size=3)
    assert found["clean_error"] == pytest.approx(7 / 11)  # of 0 .. 10 modulo 3 four are class 0
    assert found["mistakes"] == {"clean": [0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1]}
    assert found["noise_error"] is None
    assert list(found["conditions"]) == ["clean", "mu_law_8", "mu_law_6", "mu_law_4"]


def test_progress_counts_every_clip_under_every_condition():
    counted: list[int] = []
    chosen = speech_conditions(quick=True)
    evaluate(FRONT_END, network(), clips(), chosen, batch_size=4, progress=counted.append)
    assert sum(counted) == 11 * len(chosen)


def test_the_table_of_conditions_is_fixed():
    names = [c.name for c in speech_conditions()]
    assert names[:7] == ["clean", "white_20", "white_15", "white_10", "white_5", "white_0", "white_-5"]
    assert len(names) == len(set(names)) == 68
    quick = speech_conditions(quick=True)
    assert set(quick) < set(speech_conditions())
    assert {c.group for c in quick} == {c.group for c in speech_conditions()}
    assert [c.severity for c in quick if c.group == "babble"] == [20, 10, 0]
    assert not {c.group for c in speech_conditions(leave_out=["babble", "white"])} & {"babble", "white"}
    with pytest.raises(ValueError, match="no group of conditions is called 'wind'; choose from white, pink"):
        speech_conditions(["wind"])


def test_what_a_set_lacks_is_named_before_the_work():
    lonely = clips(noise=False)
    lonely.speaker = None
    assert lonely.missing() == ("background", "babble")
    with pytest.raises(ValueError, match="babble needs clips of at least two known speakers: leave it out; backg"):
        evaluate(FRONT_END, network(), lonely, sorted(speech_conditions(), key=lambda c: c.group))
    evaluate(FRONT_END, network(), lonely, speech_conditions(leave_out=lonely.missing(), quick=True))
    normalised = LogMel(RATE, n_fft=256, hop_length=250, n_mels=12, normalize="per_feature")
    with pytest.raises(ValueError, match="decibels_per_unit"):
        evaluate(normalised, network(), clips())
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        evaluate(FRONT_END, network(), clips(), batch_size=0)


def test_a_set_of_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"wave must be \(clips, samples\)"):
        SpeechSet(torch.zeros(0, 100), torch.zeros(0).long())
    with pytest.raises(ValueError, match="speaker must be 2 whole numbers"):
        SpeechSet(torch.zeros(2, 100), torch.zeros(2).long(), torch.zeros(3).long())


def test_the_digest_tells_sets_apart():
    digests = {clips().digest(), clips(noise=False).digest()}
    for name in ("wave", "target", "speaker"):
        other = clips()
        getattr(other, name)[-1] += 1
        digests.add(other.digest())
    assert len(digests) == 5
    assert clips().digest() in digests
