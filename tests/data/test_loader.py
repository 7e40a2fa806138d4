"""Batches: the same for a seed, however they are put together."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from randommix_audio.data import BankError, BankLoader, Batch, Clip, Entries, NoiseBank, Task, WaveBank

SAMPLES = 400


@pytest.fixture
def entries(tmp_path: Path) -> Entries:
    """31 clips of two classes, two rows of zeros and three of background noise."""
    clips = []
    for i in range(31):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, np.full(100 + 20 * i, i + 1, dtype=np.int16), 16000)
        clips.append(Clip(path, "ab"[i % 2], "train", path.name))
    bank = WaveBank.build(tmp_path / "bank", clips, seconds=SAMPLES / 16000, progress=False)
    sound = np.random.default_rng(0).integers(-20000, 20000, 3000).astype(np.int16)
    noise = NoiseBank(sound, np.array([0, 1000, 3000]), ["one", "two"], 16000)
    rows = Entries.of(bank, range(31), [i % 2 for i in range(31)], noise)
    rows = rows.with_silence(2, None, None, 2)
    return rows.with_silence(2, torch.tensor([0, 600, 2600]), torch.tensor([0.5, 1.0, 0.013]), 3)


def same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for name in ("wave", "lengths", "target", "silence", "index"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


def test_the_same_batches_whatever_the_number_of_workers_and_resident_or_not(entries):
    first = list(BankLoader(entries, 7, seed=3).epoch(5))
    for kwargs in ({"workers": 1}, {"workers": 2}, {"resident": True}, {"resident": False, "device": "cpu"}):
        loader = BankLoader(entries, 7, seed=3, **kwargs)
        list(loader.epoch(4))  # an epoch before does not change the next
        same(first, list(loader.epoch(5)))


def test_a_batch_holds_what_its_rows_say(entries):
    for resident in (False, True):
        for batch in BankLoader(entries, 8, resident=resident).epoch(0):
            assert batch.wave.dtype == torch.int16
            for wave, length, target, silent, row in zip(
                batch.wave, batch.lengths, batch.target, batch.silence, batch.index, strict=True
            ):
                if row < 31:
                    held = min(100 + 20 * int(row), SAMPLES)
                    assert length == held
                    assert (wave[:held] == row + 1).all()
                    assert not wave[held:].any()
                    assert (target, silent) == (row % 2, False)
                else:
                    assert (int(length), int(target), bool(silent)) == (SAMPLES, 2, True)
                    expected = np.zeros(SAMPLES)
                    if row >= 33:
                        at, gain = [(0, 0.5), (600, 1.0), (2600, 0.013)][int(row) - 33]
                        expected = np.rint(entries.noise.samples[at : at + SAMPLES] * np.float32(gain))
                    np.testing.assert_array_equal(wave.numpy(), expected)


def test_each_epoch_and_seed_has_an_order_of_its_own_that_holds_every_row_once(entries):
    loader = BankLoader(entries, 7, seed=0)
    orders = [torch.cat([b.index for b in loader.epoch(e)]).tolist() for e in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(36))
    assert torch.cat([b.index for b in BankLoader(entries, 7, seed=1).epoch(0)]).tolist() != orders[0]
    plain = BankLoader(entries, 7, shuffle=False)
    assert torch.cat([b.index for b in plain.epoch(3)]).tolist() == list(range(36))


@pytest.mark.parametrize(
    ("size", "drop", "count"), [(7, False, 6), (7, True, 5), (36, True, 1), (50, True, 0), (1, False, 36)]
)
def test_the_number_of_batches_is_known_before(entries, size, drop, count):
    loader = BankLoader(entries, size, drop_last=drop)
    batches = list(loader.epoch(0))
    assert len(loader) == len(batches) == count
    if drop:
        assert all(len(batch) == size for batch in batches)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("world", [2, 5])
def test_ranks_in_training_get_equally_many_batches_and_share_the_rows(entries, world, drop):
    loaders = [BankLoader(entries, 3, seed=1, drop_last=drop, rank=r, world_size=world) for r in range(world)]
    parts = [list(loader.epoch(2)) for loader in loaders]
    sizes = [[len(batch) for batch in part] for part in parts]
    assert all(s == sizes[0] for s in sizes)
    assert all(len(loader) == len(part) for loader, part in zip(loaders, parts, strict=True))
    rows = torch.cat([batch.index for part in parts for batch in part]).tolist()
    if drop:
        assert len(set(rows)) == len(rows)
    else:
        assert set(rows) == set(range(36))
        assert len(rows) - 36 < world


def test_ranks_in_evaluation_share_the_rows_without_repeating_any(entries):
    parts = [BankLoader(entries, 4, shuffle=False, rank=r, world_size=5).epoch(0) for r in range(5)]
    rows = torch.cat([batch.index for part in parts for batch in part]).tolist()
    assert sorted(rows) == list(range(36))


def test_an_epoch_left_early_does_not_leak_into_the_next(entries):
    loader = BankLoader(entries, 7, workers=2)
    left = loader.epoch(0)
    next(left)
    same(list(loader.epoch(1)), list(BankLoader(entries, 7).epoch(1)))
    with pytest.raises(RuntimeError, match="later one"):
        list(left)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"seed": -1}, {"rank": 2}, {"world_size": 0}, {"workers": -1}, {"resident": "yes"}]
)
def test_a_senseless_argument_is_named(entries, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BankLoader(entries, **wrong)


def test_noise_is_cropped_inside_one_recording():
    noise = NoiseBank(np.arange(1000, dtype=np.int16), np.array([0, 100, 350, 1000]), ["a", "b", "c"], 16000)
    at = noise.draw(20000, 200, torch.Generator().manual_seed(0))
    assert set(at.tolist()) == set(range(100, 151)) | set(range(350, 801))
    assert noise[1].tolist() == list(range(100, 350))
    with pytest.raises(BankError, match="700 samples"):
        noise.draw(1, 700, torch.Generator())


def test_a_task_opens_as_it_was_saved(entries, tmp_path):
    empty = Entries.of(entries.bank, [], [])
    task = Task(["a", "b", "silence"], entries.bank, {"train": entries, "test": empty}, entries.noise, {"seed": 1})
    task.save(tmp_path)
    opened = Task.open(tmp_path)
    assert (opened.labels, opened.metadata) == (task.labels, task.metadata)
    assert opened.counts() == {"train": [16, 15, 5], "test": [0, 0, 0]}
    assert "silence" in opened.table()
    same(list(BankLoader(entries, 9).epoch(0)), list(BankLoader(opened.split("train"), 9).epoch(0)))
    assert list(BankLoader(opened.split("test")).epoch(0)) == []
    with pytest.raises(ValueError, match="validation"):
        opened.split("validation")


def test_half_a_task_does_not_open(entries, tmp_path):
    with pytest.raises(BankError, match="no prepared task"):
        Task.open(tmp_path / "nowhere")
    Task(["a", "b", "c"], entries.bank, {"train": entries}).save(tmp_path)
    stored = (tmp_path / "task.json").read_text()
    (tmp_path / "task.json").write_text(stored.replace(entries.bank.digest, "other"))
    with pytest.raises(BankError, match="do not belong together"):
        Task.open(tmp_path)
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(BankError, match="damaged"):
        Task.open(tmp_path)


def zipped(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize(
    "name, content",
    [
        *[("task.json", text) for text in ("[]", "null", "", "\0\0", '{"format": 2}', "[" * 100_000)],
        *[("task.json", {"labels": 3}), ("task.json", {"noise": {"a": 1}}), ("task.json", {"metadata": []})],
        *[(npz, damage) for npz in ("entries.npz", "noise.npz") for damage in ("half", "", "no archive", "\0" * 99)],
        ("entries.npz", zipped(train=np.zeros(3))),
        ("entries.npz", "labels"),
        ("noise.npz", zipped(samples=np.zeros(4, np.int16), starts=np.array([0, 2, 3]))),
    ],
)
def test_a_damaged_file_of_a_task_is_one_line_that_names_it(entries, tmp_path, name, content):
    noise = NoiseBank(np.zeros(9, np.int16), np.array([0, 4, 9]), ["one", "two"], 16000)
    rows = Entries(**{**vars(entries), "noise": noise})
    Task(["a", "b", "c"], entries.bank, {"train": rows}, noise).save(tmp_path)
    path = tmp_path / name
    if content == "labels":  # of another task, with more classes
        (tmp_path / "o").mkdir()
        Task(["a", "b", "c", "d"], entries.bank, {"train": rows.with_silence(3, None, None, 1)}).save(tmp_path / "o")
        path.write_bytes((tmp_path / "o" / name).read_bytes())
    elif content == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BankError, match=rf"{name}: damaged \(.+\); make the prepared task again") as caught:
        Task.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_task_of_an_earlier_format_or_without_its_parts_is_one_line(entries, tmp_path):
    Task(["a", "b", "c"], entries.bank, {"train": entries}).save(tmp_path)
    stored = json.loads((tmp_path / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps(stored | {"format": 1, "bank": entries.bank.fingerprint}))
    with pytest.raises(BankError, match="in another format; prepare it again"):
        Task.open(tmp_path)
    (tmp_path / "task.json").write_text(json.dumps(stored))
    (tmp_path / "entries.npz").unlink()
    with pytest.raises(BankError, match=r"no prepared task \(no entries.npz\)"):
        Task.open(tmp_path)
