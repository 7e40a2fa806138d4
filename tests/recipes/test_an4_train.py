"""Training, resuming and using the AN4 recipe on a corpus of tones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import randommix_audio as rma
from data_prep.an4 import prepare
from recipes.an4 import evaluate, transcribe
from recipes.an4.config import Config, make_mixer
from recipes.an4.job import SpeechJob
from recipes.an4.recogniser import load
from recipes.an4.utterances import Utterances, open_corpus
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.shared.records import read_metrics, without_times
from recipes.shared.trainer import Moment
from tests.recipes.an4_tones import FRONT_END, RATE, SMALL, make_corpus, record, run_here, spoken
from tests.recipes.conftest import ROOT, environment, run_twice, weights
from tests.recipes.test_resume import equal

MASKS = ("--spec_augment.freq_masks=1", "--spec_augment.freq_mask=3", "--spec_augment.time_masks=1")
SETTINGS = {
    "none": (),
    "specaugment": (*MASKS, "--spec_augment.time_mask=8"),
    "mixup": ("--mixer=mixup",),
    "randommix": ("--mixer=randommix",),
    "specaugment+randommix": (*MASKS, "--spec_augment.time_mask=8", "--mixer=randommix"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("tones"), train=40)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here(corpus, folder, "--epochs=20", "--width=24", "--name=a", "--average_last=3", "--pictures=true")
    return folder / "a"


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"recipes.an4.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment())


def job_of(corpus: Path, *arguments: str) -> SpeechJob:
    config, _ = console.parse(Config, "train", [f"--data={corpus}", *SMALL, *arguments])
    return SpeechJob(config, open_corpus(config.data), make_fabric("cpu", "32-true"))


def test_the_tones_are_learned_and_the_folder_holds_all_that_a_table_needs(trained):
    results = json.loads((trained / "results.json").read_text())
    test = results["last"]["test"]
    assert test["wer"] < 0.25
    assert test["cer"] <= test["wer"]
    assert results["setting"] == "none"
    assert results["utterances"] == {"train": 40, "validation": 4, "test": 6}
    assert len(test["transcripts"]) == 6
    assert sum(row["word_errors"] for row in test["transcripts"]) == test["word_errors"]
    assert test["word_errors"] == test["substitutions"] + test["deletions"] + test["insertions"]
    assert [row["speaker"] for row in test["transcripts"]] == ["test0", "test0", "test1", "test1", "test2", "test2"]
    lines = read_metrics(trained / "metrics.jsonl")
    assert len(lines) == 20
    assert lines[-1]["train_loss"] < lines[0]["train_loss"] / 3
    assert "train_accuracy" not in lines[0]
    assert lines[-1]["validation_accuracy"] == 1 - lines[-1]["validation_wer"]
    assert {path.name for path in (trained / "pictures").iterdir()} == {"curves.png", "mixes.png"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_trains_names_its_run_and_masks_or_mixes_what_it_says(corpus, tmp_path, setting):
    results = run_here(corpus, tmp_path, "--epochs=1", *SETTINGS[setting])
    assert results["setting"] == setting
    assert (tmp_path / f"{setting}-s0" / "results.json").is_file()
    assert np.isfinite(results["last"]["validation"]["loss"])


@pytest.mark.parametrize("file", sorted((ROOT / "recipes" / "an4" / "conf").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_accepted(file):
    small = ROOT / "recipes" / "an4" / "conf" / "small.yaml"
    config, stem = console.parse(Config, "train", [f"--config={small}", f"--config={file}"])
    make_mixer(config)
    wanted = {"small": "none", "linear": "mixup"}.get(file.stem, file.stem)
    assert config.setting == wanted
    assert config.run_name(stem) == f"{file.stem}-{wanted}-s0"


def test_about_p_of_the_rows_are_mixed_until_the_end_of_mixing(corpus):
    job = job_of(corpus, "--mixer=mixup", "--mix_p=0.5", "--mix_until=0.9")
    batch = next(iter(job.batches(0)))
    for progress, mixed in ((0.0, 4), (0.89, 4), (0.9, 0), (0.99, 0)):
        _, plan = job.plan(batch, Moment(0, progress, rma.step_generator(0, 0)))
        assert len(batch) == 8
        assert int((plan.share[0] < 1).sum()) <= mixed  # a row may be paired with itself
        assert mixed == 0 or (plan.share[0] < 1).any()


def test_processes_mix_by_the_same_methods_and_with_partners_of_their_own(corpus):
    job = job_of(corpus, "--mixer=randommix", "--mix_p=1", "--mix_until=1")
    batch = next(iter(job.batches(0)))
    plans = [
        job.plan(batch, Moment(0, 0.0, rma.step_generator(0, 3, rank), rma.step_generator(0, 3, -1)))[1]
        for rank in range(2)
    ]
    assert plans[0].method == plans[1].method
    assert len(set(plans[0].method)) > 1
    assert not torch.equal(plans[0].sources[1], plans[1].sources[1])


def test_masks_before_mixing_are_others_in_the_two_utterances_and_after_it_the_same(corpus):
    wide = (*SETTINGS["specaugment"], "--mixer=mixup", "--mix_p=1", "--mix_until=1")
    seen = {}
    for order in ("before", "after"):
        job = job_of(corpus, *wide, f"--spec_augment_order={order}")
        batch = next(iter(job.batches(0)))

        def network(x, lengths, order=order):
            seen[order] = x
            return torch.zeros(len(x), x.shape[1], 5).log_softmax(-1), lengths

        job.step(network, batch, Moment(0, 0.0, rma.step_generator(0, 0)))
        assert (batch.features[:, 0] != 0).any()
    masked = {order: (x == 0).all(1).sum() for order, x in seen.items()}  # bands that are 0 in all frames of a row
    assert masked["after"] > masked["before"]


def test_the_loss_of_a_step_is_that_of_both_transcripts_by_their_shares(corpus):
    job = job_of(corpus, "--mixer=mixup", "--mix_p=1", "--mix_until=1")
    batch = next(iter(job.batches(0)))
    encoder = job.shape.make_encoder(0).eval()
    outcome = job.step(encoder, batch, Moment(0, 0.5, rma.step_generator(0, 0)))
    x, plan = job.plan(batch, Moment(0, 0.5, rma.step_generator(0, 0)))
    log_probs, lengths = encoder(plan.apply(x), plan.lengths)
    both = torch.minimum(batch.lengths, plan.pair(batch.lengths))
    weights = plan.weights[0, :, 0, 0].expand(-1, x.shape[1])
    frames = torch.arange(x.shape[1])
    own = torch.stack([row[frames < n].mean() for row, n in zip(weights, both, strict=True)])
    own = torch.where(plan.sources[1] == plan.sources[0], 1.0, own)
    losses = []
    for source, share in ((plan.sources[0], own), (plan.sources[1], 1 - own)):
        each = torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1), batch.text[source], lengths, batch.text_lengths[source], reduction="none"
        )
        losses.append(share * each / batch.text_lengths[source])
    torch.testing.assert_close(outcome.loss, sum(losses).mean(), rtol=1e-4, atol=1e-5)
    assert outcome.accuracy is None


def test_the_features_of_a_batch_are_those_of_each_utterance_alone(corpus):
    job = job_of(corpus)
    part = job.splits["train"]
    places = torch.tensor([3, 17, 0])
    batch = part.batch(places)
    for row, place in enumerate(places.tolist()):
        alone = job.front_end(part.clip(place)[None])[0].T
        n = int(batch.lengths[row])
        torch.testing.assert_close(batch.features[row, :n], alone)
        assert (batch.features[row, n:] == job.front_end.pad_value).all()
        assert batch.texts[row] == part.texts[place]
        symbols = batch.text[row, : batch.text_lengths[row]]
        assert "".join(job.characters.characters[s - 1] for s in symbols.tolist()) == part.texts[place]


def test_each_utterance_is_heard_at_one_of_the_speeds_in_an_epoch(corpus):
    job = job_of(corpus, "--speeds=[0.8, 1.0, 1.25]")
    train = job.splits["train"]
    frames = train.lengths.view(3, len(train))
    torch.testing.assert_close(frames[0] / frames[1], torch.full((40,), 1 / 0.8), rtol=0.05, atol=0.0)
    torch.testing.assert_close(frames[2] / frames[1], torch.full((40,), 1 / 1.25), rtol=0.05, atol=0.0)
    heard = [sorted(int(n) for batch in job.batches(epoch) for n in batch.lengths) for epoch in range(2)]
    assert len(heard[0]) == 40
    assert heard[0] != heard[1]
    assert len(job.splits["test"].lengths) == 6
    peaks = []
    for speed in (0.8, 1.0, 1.25):
        wave = train.clip(0, speed).float()
        peaks.append(float(torch.fft.rfft(wave).abs().argmax()) * RATE / len(wave))
    assert peaks == pytest.approx([0.8 * peaks[1], peaks[1], 1.25 * peaks[1]], rel=0.01)


def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(corpus, tmp_path, monkeypatch):
    options = (*SETTINGS["specaugment+randommix"], "--epochs=3", "--average_last=2", "--dropout=0.2", "--resume=auto")
    run_here(corpus, tmp_path, "--name=whole", *options)

    class Stopped(Exception):
        pass

    whole_step, left = torch.optim.AdamW.step, [8]  # in the second epoch

    def step(*arguments, **more):
        left[0] -= 1
        if left[0] == 0:
            raise Stopped
        return whole_step(*arguments, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(Stopped):
        run_here(corpus, tmp_path, "--name=stopped", *options)
    monkeypatch.undo()
    run_here(corpus, tmp_path, "--name=stopped", *options)
    for file in ("last.ckpt", "best.ckpt", "average.ckpt", "epoch-0002.ckpt"):
        assert equal(weights(tmp_path / "whole" / file), weights(tmp_path / "stopped" / file))
    lines = [without_times(read_metrics(tmp_path / name / "metrics.jsonl")) for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "stopped")]
    assert results[0]["average"] == results[1]["average"]


def test_the_averaged_model_is_the_mean_of_the_last_epochs(trained):
    mean, last = weights(trained / "average.ckpt"), weights(trained / "last.ckpt")
    some = [weights(trained / f"epoch-{n:04d}.ckpt") for n in (18, 19, 20)]
    assert equal(some[-1], last)
    assert len(list(trained.glob("epoch-*.ckpt"))) == 3
    for name in ("head.weight", "norm_first.running_var"):
        torch.testing.assert_close(mean[name], torch.stack([one[name] for one in some]).mean(0))
    assert not torch.equal(mean["head.weight"], last["head.weight"])


def test_two_processes_agree_on_the_weights_and_on_the_scores(corpus, tmp_path):
    options = (*SMALL, *SETTINGS["randommix"], "--epochs=2", "--average_last=2")
    done = run_twice("recipes.an4.train", f"--data={corpus}", f"--runs={tmp_path}", "--name=two", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    assert results["processes"] == 2
    assert results["checksums"][0] == results["checksums"][1]
    assert [row["key"] for row in results["last"]["test"]["transcripts"]] == [f"wav/test/{i:03d}.wav" for i in range(6)]
    assert len(read_metrics(tmp_path / "two" / "metrics.jsonl")) == 2


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_evaluate_gives_the_numbers_that_training_ended_with(trained, tmp_path, decoder, capsys):
    results = json.loads((trained / "results.json").read_text())
    for kind in ("last", "best", "average"):
        out = tmp_path / f"{kind}.json"
        evaluate.main([f"--checkpoint={trained / kind}.ckpt", f"--out={out}", "--device=cpu", f"--decoder={decoder}"])
        stored, wanted = json.loads(out.read_text()), results[kind]["test"]
        if decoder == "greedy":
            assert stored["transcripts"] == wanted["transcripts"]
        assert stored["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
        assert abs(stored["wer"] - wanted["wer"]) < 0.2
        low, high = stored["wer_interval"]
        assert 0 <= low <= stored["wer"] <= high
    assert "95 % bootstrap interval" in capsys.readouterr().out


def test_transcribe_reads_any_format_rate_and_channel_count(trained, tmp_path, capsys):
    wave = spoken("AB CA", np.random.default_rng(5))
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    soundfile.write(tmp_path / "b.flac", np.stack([wave, wave], 1), RATE)
    soundfile.write(tmp_path / "c.sph", wave, RATE, format="NIST")
    import librosa

    soundfile.write(tmp_path / "d.wav", librosa.resample(wave, orig_sr=RATE, target_sr=44100), 44100)
    files = [str(tmp_path / name) for name in ("a.wav", "b.flac", "c.sph", "d.wav")]
    transcribe.main([*files, f"--checkpoint={trained / 'last.ckpt'}", "--device=cpu", "--decoder=beam"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{path}  0.00-1.00 s  AB CA" for path in files]


def test_a_longer_file_is_cut_where_it_is_quiet(trained, tmp_path, capsys):
    random = np.random.default_rng(0)
    silence = 0.01 * random.standard_normal(RATE // 2)
    parts = [spoken("AB CA", random), silence, spoken("BC", random), silence, spoken("AC BA", random)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE)
    transcribe.main(
        [str(tmp_path / "long.wav"), f"--checkpoint={trained / 'last.ckpt'}", "--device=cpu", "--seconds=1.5"]
    )
    lines = capsys.readouterr().out.splitlines()
    spans = [line.split()[1].split("-") for line in lines]
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
    assert spans[-1][1] == "3.40"
    assert " ".join(" ".join(line.split()[3:]) for line in lines) == "AB CA BC AC BA"
    assert len(lines) >= 3


def test_files_that_cannot_be_used_are_named_and_the_others_still_transcribed(trained, tmp_path):
    soundfile.write(tmp_path / "good.wav", spoken("AB CA", np.random.default_rng(5)), RATE)
    soundfile.write(tmp_path / "short.wav", np.zeros(50), RATE)
    (tmp_path / "bad.wav").write_text("nothing")
    files = [tmp_path / name for name in ("bad.wav", "short.wav", "good.wav", "none.wav")]
    done = run("transcribe", *files, f"--checkpoint={trained / 'last.ckpt'}", "--device=cpu")
    assert done.returncode == 2
    assert done.stdout == f"{tmp_path / 'good.wav'}  0.00-1.00 s  AB CA\n"
    assert len(done.stderr.strip().splitlines()) == 1
    for name in ("bad.wav", "short.wav: is too short", "none.wav: no such file"):
        assert name in done.stderr


@pytest.mark.parametrize("program", ["evaluate", "transcribe"])
def test_a_checkpoint_of_something_else_is_one_line(program, tmp_path):
    torch.save({"model": {}, "shape": {"labels": ["yes"]}}, tmp_path / "words.ckpt")
    main = {"evaluate": evaluate.main, "transcribe": transcribe.main}[program]
    files = ["a.wav"] if program == "transcribe" else []
    with pytest.raises(UserError, match=r"words.ckpt: not a checkpoint of a speech recogniser"):
        main([*files, f"--checkpoint={tmp_path / 'words.ckpt'}", "--device=cpu"])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--mixer=cutmix"], "mixer must be one of none, mixup, .*, got cutmix"),
        (["--mixer=randommix", "--candidates=[fmix]", "--weights=[1]"], "candidates: fmix is not for transcripts"),
        (["--mixer=mixup", "--mixer_args={p: 1}"], "mixer_args: p is ruled by the recipe"),
        (["--mixer=mixup", "--mixer_args={colour: 1}"], "mixer mixup: .*colour"),
        (["--mix_p=1.5"], r"mix_p must lie in \[0, 1\], got 1.5"),
        (["--spec_augment.freq_mask=-1"], "spec_augment.freq_mask must not be negative"),
        (["--speeds=[]"], "speeds must be numbers"),
        (["--kernel=4"], "kernel must be odd, got 4"),
        (["--average_last=3", "--epochs=2"], "average_last must be 0 to epochs, 2, got 3"),
        (["--label_smoothing=0.1"], "label_smoothing is not for CTC"),
        (["--front_end={n_mel: 3}"], "front end: .*n_mel"),
        (["--front_end={sample_rate: 8000}"], "front_end.sample_rate is 8000, but the corpus has 16000"),
        (["--data=nowhere"], "nowhere: holds no bank"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_nothing_is_written(corpus, tmp_path, options, message):
    with pytest.raises((UserError, Exception), match=message) as caught:
        run_here(corpus, tmp_path / "runs", *options)
    assert type(caught.value).__name__ in ("UserError", "BankError")
    assert not (tmp_path / "runs").exists()


def test_a_bank_without_transcripts_is_refused(corpus, tmp_path):
    other = shutil.copytree(corpus, tmp_path / "other")
    stored = json.loads((other / "bank.json").read_text())
    stored["metadata"] = {}
    (other / "bank.json").write_text(json.dumps(stored))
    done = run("train", f"--data={other}", f"--runs={tmp_path / 'runs'}", *SMALL)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {other}: holds no transcripts; make it with python -m data_prep.an4\n",
    )


def test_a_corpus_without_validation_and_test_utterances_trains_and_says_so(tmp_path, capsys):
    root = record(tmp_path / "tones", train=8, validation=0, test=0)
    table = (root / "transcripts.tsv").read_text()
    for i in range(4):
        table = table.replace(f"train{i}", "one")
    (root / "transcripts.tsv").write_text(table)  # one speaker: none to set apart
    prepare(root, tmp_path / "prepared", progress=False)
    results = run_here(tmp_path / "prepared", tmp_path / "runs", "--epochs=1", "--pictures=false")
    assert results["last"]["test"]["wer"] is None
    assert "no test utterances" in capsys.readouterr().out
    assert read_metrics(tmp_path / "runs" / "none-s0" / "metrics.jsonl")[0]["validation_wer"] is None
    with pytest.raises(UserError, match="has no utterances of that split"):
        evaluate.main([f"--checkpoint={tmp_path / 'runs' / 'none-s0' / 'last.ckpt'}", "--device=cpu"])


def test_a_run_is_refused_when_the_transcripts_have_changed(corpus, tmp_path):
    run_here(corpus, tmp_path / "runs", "--epochs=1", "--name=a")
    other = record(tmp_path / "tones", train=40)
    lines = (other / "transcripts.tsv").read_text().splitlines()
    lines[1] = lines[1].rsplit("\t", 1)[0] + "\tabc"
    (other / "transcripts.tsv").write_text("\n".join(lines))
    prepare(other, tmp_path / "prepared", progress=False)
    moved = (f"--data={tmp_path / 'prepared'}", f"--runs={tmp_path / 'runs'}", *SMALL, "--epochs=1", "--name=a")
    config, _ = console.parse(Config, "train", [*moved, "--resume=auto"])
    assert open_corpus(config.data).digest != open_corpus(str(corpus)).digest
    with pytest.raises(UserError, match=r"was made with data|was trained on other data"):
        run_here(tmp_path / "prepared", tmp_path / "runs", "--epochs=1", "--name=a", "--resume=auto")


def test_the_checkpoint_alone_is_enough_to_recognise(trained, corpus):
    model, state = load(trained / "last.ckpt")
    assert state["shape"]["front_end"] == {"sample_rate": RATE, **FRONT_END}
    part = Utterances(open_corpus(str(corpus)), "test", model.front_end, model.characters, torch.device("cpu"))
    batch = part.batch(torch.arange(6))
    wave = torch.nn.utils.rnn.pad_sequence([part.clip(i) for i in range(6)], batch_first=True)
    lengths = torch.tensor([len(part.clip(i)) for i in range(6)])
    with torch.no_grad():
        one, other = model(wave, lengths), model.encoder(batch.features, batch.lengths)
    torch.testing.assert_close(one[0], other[0])
    assert torch.equal(one[1], other[1])
