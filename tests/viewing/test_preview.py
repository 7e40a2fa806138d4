"""The command line: pictures, sounds and a page of the user's own files, and one line where something is wrong."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import randommix_audio as rma
from randommix_audio.cli import main
from randommix_audio.viewing.preview import WAVE_METHODS, chosen_methods, names_of, read_clips, wav_bytes

RATE = 16000


def tone(path: Path, hertz: float, seconds: float = 0.3, rate: int = RATE, gain: float = 0.5, **how: str) -> Path:
    wave = gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **how)
    return path


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [str(tone(tmp_path / "low.wav", 300)), str(tone(tmp_path / "high.wav", 2000, seconds=0.25))]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error line; it is the only one and there is no traceback."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_preview_writes_a_picture_for_each_method_an_overview_and_a_page(two, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main(["preview", *two, "--out", str(out), "--methods", "mixup,cutmix"]) == 0
    assert {path.name for path in out.iterdir()} == {"mixup.png", "cutmix.png", "overview.png", "index.html"}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert re.search(r"\d+ % low \+ \d+ % high", page)
    assert page.count("data:image/png;base64,") == 3
    assert page.count("<audio") == 2
    assert page.count("<tr>") == 2, "no rows beside those with a sound: shares stand in the pictures"
    assert str(out / "index.html") in capsys.readouterr().out


def test_the_page_needs_no_other_file_and_no_network(two, tmp_path):
    assert main(["preview", *two, "--out", str(tmp_path), "--methods", "mixup"]) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert "http" not in page.replace("data:", "")[:3000]


@pytest.mark.parametrize(("arguments", "said"), [([], "the alpha of each method,"), (["--alpha", "0.3"], "alpha 0.3,")])
def test_the_page_says_whose_alpha_the_shares_were_drawn_with(two, tmp_path, arguments, said):
    assert main(["preview", *two, "--out", str(tmp_path), "--methods", "cutout,mixup", *arguments]) == 0
    assert f"mixed with {said}" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_without_methods_every_mixer_has_its_picture():
    assert chosen_methods(None, wave=False) == [name for name in rma.MIXERS if name != "none"]
    assert chosen_methods(None, wave=True) == list(WAVE_METHODS)
    assert chosen_methods(["fmix", "mixup", "fmix"], wave=False) == ["fmix", "mixup"]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(two, tmp_path):
    def made(folder: str, seed: int) -> dict[str, bytes]:
        out = tmp_path / folder
        arguments = ["--methods", "time_cutmix", "--domain-wave", "--seed", str(seed)]
        assert main(["preview", *two, "--out", str(out), *arguments]) == 0
        return {path.name: path.read_bytes() for path in out.iterdir()}

    first, again, other = made("a", 3), made("b", 3), made("c", 4)
    assert first == again
    assert first["time_cutmix_1.wav"] != other["time_cutmix_1.wav"]


def test_wave_mixing_writes_the_mix_that_the_page_says_as_16_bit_wav(two, tmp_path):
    out = tmp_path / "out"
    assert main(["preview", *two, "--out", str(out), "--methods", "mixup", "--domain-wave"]) == 0
    said = re.search(r"mixup_1.wav: (\d+) % low \+ (\d+) % high", (out / "index.html").read_text())
    assert said is not None
    assert soundfile.info(out / "mixup_1.wav").subtype == "PCM_16"
    mixed, rate = soundfile.read(out / "mixup_1.wav")
    assert rate == RATE
    assert len(mixed) == round(0.3 * RATE)  # the longer of the two
    common = mixed[: round(0.25 * RATE)]
    time = np.arange(len(common)) / RATE
    own = 2 * np.mean(common * np.sin(2 * np.pi * 300 * time)) / 0.5
    partner = 2 * np.mean(common * np.sin(2 * np.pi * 2000 * time)) / 0.5
    assert own + partner == pytest.approx(1, abs=0.01)
    # The share counts the last sixth as well, where the own clip is alone.
    assert (own * 5 + 1) / 6 == pytest.approx(int(said[1]) / 100, abs=0.015)


def test_a_mixed_sound_ends_where_the_plan_says_and_not_with_the_padding(two, tmp_path):
    arguments = ["--methods", "time_cutmix", "--domain-wave"]
    assert main(["preview", *two, "--out", str(tmp_path), *arguments]) == 0
    seconds = [soundfile.info(tmp_path / f"time_cutmix_{row}.wav").duration for row in (1, 2)]
    assert seconds == [0.3, 0.25]


def test_a_sound_beyond_full_scale_is_made_quieter_and_not_clipped():
    wave = torch.sin(torch.linspace(0, 50, 4000)) * 3
    written, _ = soundfile.read(io.BytesIO(wav_bytes(wave, RATE)))
    assert np.abs(written).max() <= 1
    np.testing.assert_allclose(written * 3, wave, atol=2e-3)


def test_files_of_any_rate_length_and_channel_count_become_one_batch(tmp_path):
    stereo = tmp_path / "stereo.flac"
    soundfile.write(stereo, np.full((4410, 2), [0.5, 0.1]), 44100)
    clips = read_clips([str(tone(tmp_path / "a.wav", 400, rate=8000)), str(stereo)], RATE, seconds=0.2)
    assert clips.lengths.tolist() == [3200, 1600]
    assert clips.wave.shape == (2, 3200)
    assert clips.wave[1, 800].item() == pytest.approx(0.3, abs=0.01)
    assert clips.wave[1, 1600:].abs().max() == 0


def test_files_of_several_folders_are_called_by_folder_and_name():
    assert names_of(["yes/a.wav", "no/a.wav"]) == ["yes/a", "no/a"]
    assert names_of(["yes/a.wav", "yes/b.c.wav"]) == ["a", "b.c"]


def test_names_are_shown_as_they_are_even_if_they_look_like_html(tmp_path):
    files = [str(tone(tmp_path / name, 300)) for name in ("a<b>&.wav", "no.wav")]
    assert main(["preview", *files, "--out", str(tmp_path / "o"), "--methods", "mixup"]) == 0
    page = (tmp_path / "o" / "index.html").read_text(encoding="utf-8")
    assert "a&lt;b&gt;&amp;" in page
    assert "a<b>" not in page


def test_more_files_than_rows_are_mixed_and_the_first_rows_shown(tmp_path):
    files = [str(tone(tmp_path / f"{i}.wav", 200 * i + 100, seconds=0.1)) for i in range(5)]
    arguments = ["--methods", "mixup", "--domain-wave", "--rows", "2"]
    assert main(["preview", *files, "--out", str(tmp_path / "o"), *arguments]) == 0
    assert len(list((tmp_path / "o").glob("*.wav"))) == 2


def test_the_overview_of_two_short_clips_does_not_have_the_axis_of_a_long_third(two, tmp_path):
    from PIL import Image

    def overview(*files: str) -> np.ndarray:
        out = tmp_path / str(len(files))
        assert main(["preview", *files, "--out", str(out), "--methods", "mixup"]) == 0
        return np.asarray(Image.open(out / "overview.png").convert("RGB"))

    np.testing.assert_array_equal(overview(*two), overview(*two, str(tone(tmp_path / "long.wav", 500, seconds=3.0))))


def test_a_single_file_cannot_be_mixed(two, tmp_path, capsys):
    assert main(["preview", two[0], "--out", str(tmp_path)]) == 2
    assert "at least two audio files, got 1" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "mixpu"], "no method is called 'mixpu'"),
        (["--methods", ","], "names no method"),
        (["--methods", "cutmix", "--domain-wave"], "cutmix needs a spectrogram"),
        (["--preset", "wisper"], "'wisper'"),
        (["--seconds", "0"], "seconds must be above 0"),
        (["--seconds", "nan"], "seconds must be above 0"),
        (["--rows", "0"], "rows must be at least 1"),
        (["--alpha", "-1"], "alpha must be"),
        (["--per", "word"], "--per"),
        (["--colour"], "--colour"),
    ],
)
def test_a_mistake_in_an_option_is_one_line_that_names_it(two, tmp_path, capsys, arguments, message):
    assert main(["preview", *two, "--out", str(tmp_path / "o"), *arguments]) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "o").exists()


def test_missing_damaged_and_foreign_files_are_one_line_that_names_the_file(two, tmp_path, capsys):
    text = tmp_path / "notes.wav"
    text.write_text("not audio")
    for bad in (tmp_path / "missing.wav", text, tmp_path):
        assert main(["preview", two[0], str(bad), "--out", str(tmp_path / "o")]) == 2
        assert str(bad) in one_line(capsys)


def test_a_folder_that_cannot_be_made_is_one_line(two, tmp_path, capsys):
    assert main(["preview", *two, "--out", two[0], "--methods", "mixup"]) == 2
    assert two[0] in one_line(capsys)


def test_a_full_disk_is_one_line_and_leaves_no_half_file(two, tmp_path, capsys, monkeypatch):
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    assert main(["preview", *two, "--out", str(tmp_path / "o"), "--methods", "mixup"]) == 2
    line = one_line(capsys)
    assert "No space left on device" in line
    assert "overview.png" in line
    assert list((tmp_path / "o").iterdir()) == []


def test_a_missing_matplotlib_is_one_line_that_names_the_extra(two, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "randommix_audio.viewing._picture", None)
    assert main(["preview", *two, "--out", str(tmp_path / "o")]) == 2
    assert "randommix_audio[viewing]" in one_line(capsys)


@pytest.mark.parametrize("arguments", [["--help"], ["preview", "--help"]])
def test_help_tells_commands_and_defaults(arguments, capsys):
    assert main(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "preview" in text
    if len(arguments) == 2:
        assert all(f"(default: {value})" in text for value in ("whisper", "row", "10.0"))


def test_no_command_at_all_is_a_mistake(capsys):
    assert main([]) == 2
    assert "COMMAND" in one_line(capsys)


def test_the_version_is_printed_and_the_module_runs_as_a_program(capsys):
    assert main(["version"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"randommix_audio {rma.__version__} ")
    done = subprocess.run(
        [sys.executable, "-m", "randommix_audio", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == line


def test_real_clips_of_two_words_give_a_page(real_data, tmp_path):
    words = real_data / "speech_commands"
    files = [str(sorted((words / word).glob("*.flac"))[7]) for word in ("yes", "no")]
    assert main(["preview", *files, "--out", str(tmp_path), "--methods", "fmix"]) == 0
    assert re.search(r"\d+ % yes/\w+ \+ \d+ % no/\w+", (tmp_path / "index.html").read_text())
