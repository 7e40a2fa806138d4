"""Export a recogniser with its front end inside.

`python -m recipes.speech_commands.export --checkpoint runs/a/best.ckpt --out a.onnx`
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from randommix_audio.files import write_atomically
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.speech_commands.recogniser import Recogniser, load

TOLERANCE = 1e-3  # of a logit; float32 sums in another order


@dataclass
class Options:
    """Write a recogniser as one file that maps waveforms (batch, samples) in -1..1 to logits (batch, classes).

    The file is run on test waveforms and must give the logits of the checkpoint.

    Args:
        checkpoint: last.ckpt or best.ckpt of a run.
        out: name ending in .onnx (ONNX), or .pt2 (torch.export); the labels go into <out>.json.
    """

    checkpoint: str
    out: str


def probe(samples: int, rows: int) -> torch.Tensor:
    """Waveforms (rows, samples) to compare on: noise of falling loudness, the last row silent."""
    wave = torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))
    return wave * torch.logspace(-1, -3, rows)[:, None] * (torch.arange(rows) < rows - 1)[:, None]


def export_torch(model: Recogniser) -> tuple[bytes, Callable[[torch.Tensor], torch.Tensor]]:
    """A torch.export program, and what it computes when read back."""
    program = torch.export.export(
        model, (probe(model.shape.samples, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    stream = io.BytesIO()
    torch.export.save(program, stream)
    stream.seek(0)
    return stream.getvalue(), torch.export.load(stream).module()


def export_onnx(model: Recogniser) -> tuple[bytes, Callable[[torch.Tensor], torch.Tensor]]:
    """An ONNX model, and what it computes in onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error}: pip install 'randommix_audio[export]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (probe(model.shape.samples, 2),),
            dynamo=True,
            verbose=False,
            input_names=["wave"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda wave: torch.from_numpy(session.run(None, {"wave": wave.numpy()})[0])


@torch.no_grad()
def export(model: Recogniser, out: Path) -> float:
    """Write the file and its labels, once the file is known to compute the same.

    Returns:
        The largest difference of a logit to the model.

    Raises:
        UserError: for another ending, a folder's name, a failed exporter, or a file that computes something else.
        OSError: it cannot be written; an older file is as it was.
    """
    writers = {".onnx": export_onnx, ".pt2": export_torch}
    if out.suffix not in writers:
        raise UserError(f"out must end in {' or '.join(writers)}, got {out}")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file")
    about = {
        "labels": model.labels,
        "sample_rate": model.front_end.sample_rate,
        "samples": model.shape.samples,
        "pad": model.shape.pad,
        "input": "wave (batch, samples) float32 in -1..1",
        "output": "logits (batch, classes) float32",
    }
    try:
        content, again = writers[out.suffix](model)
    except UserError:
        raise
    except Exception as error:  # the exporters of older versions fail in many ways
        found = f"{type(error).__name__} in PyTorch {torch.__version__}"
        raise UserError(f"{out}: the exporter failed ({found}); exporting is tested with PyTorch 2.14") from error
    wave = probe(model.shape.samples, 5)
    difference = float((again(wave) - model(wave)).abs().max())
    if not difference <= TOLERANCE:
        raise UserError(f"{out}: would give logits that differ by {difference:.3g} from the checkpoint's; not written")
    write_atomically(out.with_suffix(out.suffix + ".json"), json.dumps(about, indent=1) + "\n")
    write_atomically(out, content)
    return difference


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.export", argv)
    model, _ = load(options.checkpoint)
    difference = export(model, Path(options.out))
    print(f"{options.out}: logits within {difference:.2g} of the checkpoint's; labels in {options.out}.json")


if __name__ == "__main__":
    console.run(main)
