"""A checkpoint on damaged speech: `python -m recipes.speech_commands.robustness --checkpoint runs/a/best.ckpt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import soundfile
import torch

from randommix_audio.data import Entries, Task
from randommix_audio.evaluation import FILE_CODECS, GROUPS, SpeechSet, evaluate, speech_conditions
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.devices import exact, make_fabric
from recipes.shared.tests_of_robustness import digest_of, is_there
from recipes.speech_commands.evaluate import batches, load_with_corpus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Panels of the picture: title, groups, and whether smaller severities are the harder ones.
PANELS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("additive noise", ("white", "pink", "background", "babble"), True),
    ("reverberation", ("reverberation",), False),
    ("occlusion", ("time_occlusion", "freq_occlusion", "block_occlusion"), False),
    ("FGSM on the log-mel", ("fgsm_features",), False),
    ("FGSM on the waveform", ("fgsm_wave",), False),
    ("level", ("quieter", "louder"), False),
    ("clipping", ("clipping",), False),
    ("time shift", ("time_shift",), False),
    ("band limit", ("low_pass",), True),
    ("mu-law", ("mu_law", "telephone"), True),
    ("compressed files", tuple(FILE_CODECS), False),
)
LOGARITHMIC = ("FGSM on the log-mel", "FGSM on the waveform", "band limit")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito
LEFT_OUT = {
    "background": "the data has no recordings of noise",
    "babble": "nobody knows who speaks in the clips",
    "fgsm_features": "the front end normalises each clip, so its features have no decibels",
}
UNITS = {
    "additive noise": "SNR in dB",
    "occlusion": "share of each axis it covers",
    "level": "gain in dB",
    "mu-law": "bits",
}


@dataclass
class Options:
    """Test a checkpoint on damaged speech: noise, rooms, levels, codecs, occlusion, attacks.

    Writes robustness.json and robustness.png beside the checkpoint; docs/evaluation.md says what is in them.

    Args:
        checkpoint: best.ckpt or last.ckpt of a run.
        data: folder made by `python -m data_prep.speech_commands`; null takes the one it was trained on.
        split: train, validation or test.
        out: JSON file for the numbers, the picture beside it; null writes robustness.json beside the checkpoint.
        limit_clips: test this many clips, spread evenly over the split; null takes all.
        quick: about half as many severities.
        codecs: also through MP3 and Ogg Vorbis files; the numbers depend on the version of libsndfile.
        seed: of everything random.
        batch_size: clips of a batch; does not change the numbers.
        device: auto, cpu, cuda, cuda:N or mps.
        again: test once more, or with other settings, and replace what an earlier test has written.
    """

    checkpoint: str
    data: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    out: str | None = None
    limit_clips: int | None = None
    quick: bool = False
    codecs: bool = False
    seed: int = 0
    batch_size: int = 256
    device: str = "auto"
    again: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit_clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")


def speakers(entries: Entries) -> torch.Tensor | None:
    """(N,) long, who speaks in each clip of a split, -1 in silence; None where the names of the clips do not say."""
    spoken = (entries.clip >= 0) & ~entries.silence
    names = [entries.bank.keys[clip].rsplit("/", 1)[-1] for clip in entries.clip[spoken].tolist()]
    if not all("_nohash_" in name for name in names):
        return None
    who = [name.split("_nohash_")[0] for name in names]
    number = {name: i for i, name in enumerate(sorted(set(who)))}
    found = torch.full_like(entries.clip, -1)
    found[spoken] = torch.tensor([number[name] for name in who], dtype=torch.long)
    return found


def speech_set(task: Task, split: str, limit: int | None) -> SpeechSet:
    """The clips of a split, or `limit` of them spread over it, and what they are damaged with."""
    entries = task.split(split)
    waves, targets = zip(*batches(entries, 1024, torch.device("cpu")), strict=True)
    noise = [] if task.noise is None else [torch.from_numpy(task.noise[i].copy()) for i in range(len(task.noise))]
    whole = SpeechSet(torch.cat(waves), torch.cat(targets), speakers(entries), noise, torch.arange(len(entries)))
    if limit is None or limit >= len(whole):
        return whole
    # Clips lie word by word: the first ones would be of one word.
    return whole.part(torch.arange(limit) * len(whole) // limit)


def measure(options: Options, out: Path) -> dict[str, Any] | None:
    """The content of robustness.json, or None where it is there already.

    Raises:
        UserError: where checkpoint and corpus do not fit, or `out` holds another test and `again` is off.
    """
    device = make_fabric(options.device, "32-true").device
    model, state, data, task = load_with_corpus(options.checkpoint, options.data, device)
    if not len(task.split(options.split)):
        raise UserError(f"{data}: has no {options.split} clips")
    clips = speech_set(task, options.split, options.limit_clips)
    groups = [*GROUPS, *FILE_CODECS] if options.codecs else list(GROUPS)
    missing = (*clips.missing(), *(["fgsm_features"] if model.front_end.normalize else []))
    conditions = speech_conditions(groups, leave_out=missing, quick=options.quick)
    settings = {
        "checkpoint_digest": digest_of(options.checkpoint),
        "data_digest": clips.digest(),
        "split": options.split,
        "clips": len(clips),
        "conditions": [condition.name for condition in conditions],
        "seed": options.seed,
    }
    if options.codecs:
        settings["libsndfile"] = soundfile.__libsndfile_version__
    if is_there(out, settings, options.again):
        return None
    progress = console.Progress(len(clips) * len(conditions))
    try:
        with exact():
            found = evaluate(
                model.front_end, model.network, clips, conditions,
                seed=options.seed, batch_size=options.batch_size, progress=progress.advance,
            )  # fmt: skip
    finally:
        progress.close()
    about = {"checkpoint": options.checkpoint, "data": data, "epoch": state["epoch"], "commit": records.commit()}
    return {**about, "left_out": list(missing), "settings": settings, **found}


def table(report: dict[str, Any]) -> str:
    """Means, and the errors of every group from mild to strong, as lines of text."""
    lines = [f"{kind:<16} {_percent(report[f'{kind}_error'])}" for kind in ("clean", "noise", "occlusion", "fgsm")] + [
        ""
    ]
    lines.append(f"{'error in %':<16} {'mean':>6}  from mild to strong")
    for group, mean in report["groups"].items():
        cells = [
            f"{row['severity']:g}: {100 * row['error']:.1f}"
            for row in report["conditions"].values()
            if row["group"] == group
        ]
        lines.append(f"{group:<16} {_percent(mean)}  {'  '.join(cells)}  ({(GROUPS | FILE_CODECS)[group].unit})")
    lines += [f"{group:<16} left out: {LEFT_OUT[group]}" for group in report["left_out"]]
    return "\n".join(lines)


def _percent(error: float | None) -> str:
    return f"{'-' if error is None else f'{100 * error:.2f}':>6}"


def picture(report: dict[str, Any], title: str | None = None) -> Figure:
    """Error against severity, a panel for each kind of damage, harder to the right; dashed is the error without.

    Args:
        report: what `evaluate` gave.
        title: a line above the picture.
    """
    from randommix_audio.viewing.figure import blank

    panels = [panel for panel in PANELS if any(group in report["groups"] for group in panel[1])]
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    figure = blank(3.0 * columns, 2.6 * rows + (0.3 if title else 0))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    for i, (name, groups, inverted) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        _draw(axes, report, name, groups)
        if inverted:
            axes.invert_xaxis()
        if i % columns == 0:
            axes.set_ylabel("error (%)", fontsize=9)
    return figure


def _draw(axes: Axes, report: dict[str, Any], name: str, groups: tuple[str, ...]) -> None:
    shown = [group for group in groups if group in report["groups"]]
    for group, colour in zip(shown, COLOURS, strict=False):
        lines = [row for row in report["conditions"].values() if row["group"] == group]
        errors = [100 * row["error"] for row in lines]
        axes.plot([row["severity"] for row in lines], errors, color=colour, marker="o", ms=3, lw=1.4, label=group)
    if name in LOGARITHMIC:
        axes.set_xscale("log")
    if len(shown) == 1:
        ticks = [row["severity"] for row in report["conditions"].values() if row["group"] == shown[0]]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.axhline(100 * report["clean_error"], color="#333333", lw=0.8, ls="--")
    axes.set_ylim(0, 100)
    axes.set_title(name, fontsize=10)
    axes.set_xlabel(UNITS.get(name, (GROUPS | FILE_CODECS)[shown[0]].unit), fontsize=8)
    axes.tick_params(labelsize=8)
    if len(shown) > 1:
        axes.legend(fontsize=7, frameon=False)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.robustness", argv)
    out = records.place(options.out, Path(options.checkpoint).with_name("robustness.json"))
    report = measure(options, out)
    if report is None:
        print(f"{out}: holds this test already; --again true repeats it")
        return
    from randommix_audio import viewing

    title = f"{'/'.join(Path(options.checkpoint).parts[-2:])}, {report['clips']} clips"
    viewing.save(picture(report, title), out.with_suffix(".png"))
    records.write_json(out, report)
    print(table(report))
    print(f"\nnumbers: {out}\npicture: {out.with_suffix('.png')}")


if __name__ == "__main__":
    console.run(main)
