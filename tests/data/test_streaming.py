"""Batches of files that are decoded as they come: the same for a seed, and nothing left behind."""

import multiprocessing
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.data import (
    AudioError,
    BankLoader,
    Clip,
    Entries,
    Prefetch,
    Recording,
    StreamLoader,
    WaveBank,
    WaveBatch,
    WaveDataset,
    collate_waves,
    read_shards,
)
from tests.data.test_recordings import coded, tar

COUNT = 23


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list[Recording]:
    """Clip i, WAV or FLAC in turn, holds 100 + 20 i samples of i + 1."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for i in range(COUNT):
        path = folder / f"{i}.{('wav', 'flac')[i % 2]}"
        soundfile.write(path, np.full(100 + 20 * i, i + 1, dtype=np.int16), 16000)
        found.append(Recording(path, target=i % 3))
    return found


def same(first: list[WaveBatch], second: list[WaveBatch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for name in ("wave", "lengths", "target", "index"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


def test_the_same_batches_whatever_the_number_of_workers(recordings):
    alone = list(StreamLoader(recordings, 4, seed=3).epoch(5))
    for workers in (1, 2):
        same(alone, list(StreamLoader(recordings, 4, seed=3, workers=workers).epoch(5)))


def test_workers_are_given_the_recordings_in_one_piece_and_not_as_objects(recordings):
    held = [sys.getrefcount(recording) for recording in recordings]
    loader = StreamLoader(tuple(recordings), 4, workers=1)
    assert [sys.getrefcount(recording) for recording in recordings] == held
    rows, expected = loader.dataset.recordings, [replace(r, path=str(r.path)) for r in recordings]
    assert (list(rows), rows[-1], rows[3:5]) == (expected, expected[-1], expected[3:5])
    with pytest.raises(IndexError):
        rows[COUNT]


def test_a_batch_holds_its_recordings_padded_with_zeros(recordings):
    seen = []
    for batch in StreamLoader(recordings, 5).epoch(0):
        assert batch.wave.dtype == torch.int16
        assert batch.wave.shape == (len(batch), batch.lengths.max())
        for wave, length, target, row in zip(batch.wave, batch.lengths, batch.target, batch.index, strict=True):
            assert (int(length), int(target)) == (100 + 20 * int(row), int(row) % 3)
            assert (wave[:length] == row + 1).all()
            assert not wave[length:].any()
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(COUNT))


def test_longer_recordings_lose_their_end_and_fixed_batches_have_one_length(recordings):
    limit = 300 / 16000
    for fixed in (False, True):
        batches = list(StreamLoader(recordings, 4, seconds=limit, fixed=fixed, shuffle=False).epoch(0))
        assert torch.cat([b.lengths for b in batches]).tolist() == [min(100 + 20 * i, 300) for i in range(COUNT)]
        assert [b.wave.shape[1] for b in batches[:2]] == ([300, 300] if fixed else [160, 240])


def test_other_sample_rates_are_resampled(recordings):
    batch = next(StreamLoader(recordings, COUNT, sample_rate=8000, shuffle=False).epoch(0))
    assert batch.lengths.tolist() == [50 + 10 * i for i in range(COUNT)]


def test_targets_that_are_no_whole_numbers_stay_a_list(recordings):
    rows = [Recording(r.path, target) for r, target in zip(recordings, ["yes", None, [1, 2]], strict=False)]
    assert next(StreamLoader(rows, 3, shuffle=False).epoch(0)).target == ["yes", None, [1, 2]]


def test_each_epoch_and_seed_has_an_order_of_its_own(recordings):
    loader = StreamLoader(recordings, 4, seed=0)
    orders = [loader.order(epoch).tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert StreamLoader(recordings, 4, seed=1).order(0).tolist() != orders[0]
    assert StreamLoader(recordings, 4, shuffle=False).order(7).tolist() == list(range(COUNT))


def test_going_on_at_a_batch_gives_the_rest_and_reads_nothing_before_it(recordings, tmp_path):
    whole = list(StreamLoader(recordings, 4, seed=2).epoch(1))
    rows = StreamLoader(recordings, 4, seed=2).rows(1)
    gone = [Recording(tmp_path / "gone.wav") if i in np.concatenate(rows[:4]) else r for i, r in enumerate(recordings)]
    same(whole[4:], list(StreamLoader(gone, 4, seed=2).epoch(1, start=4)))
    assert list(StreamLoader(gone, 4).epoch(1, start=99)) == []
    for wrong in ({"start": -1}, {"epoch": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a whole number of at least 0, not -1"):
            StreamLoader(gone, 4).epoch(**{"epoch": 1, **wrong})


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("world", [2, 5, 40])
def test_ranks_in_training_get_equally_many_batches_of_different_recordings(recordings, world, drop):
    loaders = [StreamLoader(recordings, 2, drop_last=drop, rank=r, world_size=world) for r in range(world)]
    parts = [loader.rows(3) for loader in loaders]
    sizes = [[len(batch) for batch in part] for part in parts]
    assert all(s == sizes[0] for s in sizes)
    assert len(loaders[0]) == len(parts[0])
    rows = np.concatenate([batch for part in parts for batch in part] or [np.zeros(0)]).tolist()
    if drop:
        assert len(set(rows)) == len(rows)
        assert all(size == 2 for size in sizes[0])
    else:
        assert set(rows) == set(range(COUNT))
        assert len(rows) - COUNT < world


def test_ranks_in_evaluation_share_the_recordings_without_repeating_any(recordings):
    parts = [StreamLoader(recordings, 4, shuffle=False, rank=r, world_size=5).rows(0) for r in range(5)]
    assert np.concatenate([batch for part in parts for batch in part]).tolist() == list(range(COUNT))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    """Six tars of ten clips; the clip of row i holds 50 samples of i + 1."""
    folder = tmp_path_factory.mktemp("shards")

    def clip(row: int) -> dict[str, bytes]:
        wave = np.full(50, row + 1, dtype=np.int16)
        return {f"{row:03d}.flac": coded(wave), f"{row:03d}.cls": str(row % 4).encode()}

    rows = [range(10 * shard, 10 * shard + 10) for shard in range(6)]
    return [tar(folder / f"{i}.tar", {k: v for r in part for k, v in clip(r).items()}) for i, part in enumerate(rows)]


def test_a_pool_shuffles_tars_and_neighbours_and_reads_few_tars_at_a_time(shards):
    loader = StreamLoader(read_shards(shards), 10, pool=20, workers=2)
    batches = list(loader.epoch(1))
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(60))
    pairs = loader.order(1).reshape(3, 20) // 10
    assert all(len(set(pair)) == 2 for pair in pairs.tolist())  # 20 rows come from two tars
    assert all(len(set(pair[:10])) == 2 for pair in pairs.tolist())  # and are mixed
    assert loader.order(1).tolist() != loader.order(2).tolist()
    for batch in batches:
        assert (batch.wave == (batch.index + 1)[:, None]).all()
        assert (batch.target == batch.index % 4).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_ends_the_epoch_with_its_name_and_no_process_is_left(recordings, tmp_path, workers):
    (tmp_path / "broken.flac").write_bytes(b"fLaC and then nothing")
    rows = [*recordings[:9], Recording(tmp_path / "broken.flac"), *recordings[9:]]
    arriving = StreamLoader(rows, 3, workers=workers, shuffle=False).epoch(0)
    with pytest.raises(AudioError, match=r"broken\.flac: cannot be") as caught:
        list(arriving)
    assert caught.value.path == str(tmp_path / "broken.flac")
    assert multiprocessing.active_children() == []


def test_leaving_an_epoch_early_leaves_no_thread_or_process_behind(recordings):
    before = set(threading.enumerate())
    for _ in Prefetch(StreamLoader(recordings, 2, workers=2).epoch(0), "cpu"):
        assert len(multiprocessing.active_children()) == 2
        break
    assert multiprocessing.active_children() == []
    for thread in set(threading.enumerate()) - before:
        thread.join(5)  # the thread of a queue that has been closed
    assert set(threading.enumerate()) <= before


def test_torch_s_own_random_numbers_are_left_alone(recordings):
    state = torch.get_rng_state()
    list(StreamLoader(recordings, 4, workers=1).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_dataset_and_collate_serve_a_loader_of_one_s_own(recordings):
    by_length = [[0, 1, 2], [20, 21]]
    loader = DataLoader(WaveDataset(recordings), batch_sampler=by_length, collate_fn=collate_waves, num_workers=1)
    assert [batch.index.tolist() for batch in loader] == by_length


def test_streamed_batches_equal_those_of_a_bank(recordings, tmp_path):
    clips = [Clip(r.path, "abc"[r.target], "train", Path(r.path).name) for r in recordings]
    bank = WaveBank.build(tmp_path / "bank", clips, seconds=0.025, progress=False)
    resident = BankLoader(Entries.of(bank, range(COUNT), [r.target for r in recordings]), 5, shuffle=False)
    streamed = StreamLoader(recordings, 5, seconds=0.025, fixed=True, shuffle=False)
    for a, b in zip(resident.epoch(0), streamed.epoch(0), strict=True):
        for name in ("wave", "lengths", "target", "index"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


def test_files_become_mixed_features_and_a_loss(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for i in range(7):
        path = tmp_path / f"{i}.{('wav', 'flac')[i % 2]}"
        wave = generator.integers(-9000, 9000, (3000 + 900 * i, 1 + i % 2)).astype(np.int16)
        soundfile.write(path, wave, 16000 if i % 3 else 8000)
        rows.append(Recording(path, target=i % 2))
    logmel, mixer = rma.LogMel(n_mels=20), rma.RandomMix(per="row")

    def features(batch: WaveBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return (*logmel(batch.wave, batch.lengths), batch.target)

    steps = 0
    for x, frames, word in Prefetch(StreamLoader(rows, 3, workers=1).epoch(0), "cpu", features):
        mixed, plan = mixer(x, lengths=frames, generator=torch.Generator().manual_seed(0))
        assert mixed.shape == x.shape
        assert mixed.shape[1] == 20
        assert plan.loss(F.cross_entropy, mixed.mean(2)[:, :2], word).isfinite()
        steps += 1
    assert steps == 3


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number of at least 1, not 2\.5"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"seed": None}, "seed must be a whole number of at least 0, not None"),
        ({"workers": -1}, "workers must be a whole number of at least 0"),
        ({"ahead": 0}, "ahead must be a whole number of at least 1"),
        ({"pool": 0}, "pool must be a whole number of at least 1"),
        ({"rank": -1}, "rank must be a whole number of at least 0"),
        ({"rank": 2, "world_size": 2}, "rank must be 0 to world_size - 1 = 1"),
        ({"world_size": 0}, "world_size must be a whole number of at least 1, not 0"),
        ({"sample_rate": 0}, "sample_rate must be 1000 to 768000 Hz, not 0"),
        ({"sample_rate": 16, "seconds": 1.0}, "sample_rate must be 1000 to 768000 Hz, not 16"),
        ({"fixed": True}, "fixed needs seconds"),
        ({"seconds": 0.0}, "at least one sample"),
        ({"seconds": -1.0}, "seconds must give at least one sample, not -1"),
        ({"seconds": float("nan")}, "seconds must give at least one sample, not nan"),
        ({"recordings": []}, "recordings must not be empty"),
        ({"recordings": "train.json"}, "recordings must be a list, as read_manifest gives, not str"),
        (
            {"recordings": Path("train.json")},
            "recordings must be a list, as read_manifest gives, not (Posix|Windows)Path",
        ),
        ({"recordings": iter([])}, "recordings must be a list"),
    ],
)
def test_a_wrong_argument_is_named(recordings, wrong, said):
    with pytest.raises(ValueError, match=said):
        StreamLoader(**{"recordings": recordings, **wrong})
