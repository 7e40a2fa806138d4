"""What is installed: the wheel's contents, its name on the command line, and the price of the import."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import randommix_audio as rma

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # built from a copy: an old build folder in the checkout would add modules long deleted
    leave = shutil.ignore_patterns(".*", "build", "runs", "data", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=lambda path, names: leave(path, names) if Path(path) == ROOT else [])
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, cwd=folder)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_library_alone(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"randommix_audio", f"randommix_audio-{rma.__version__}.dist-info"}
    assert "randommix_audio/py.typed" in wheel.namelist()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "randommix_audio").rglob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == {name.replace("\\", "/") for name in modules}


def test_the_library_needs_neither_torchaudio_nor_matplotlib(wheel):
    metadata = wheel.read(f"randommix_audio-{rma.__version__}.dist-info/METADATA").decode()
    needed = {
        line.split(":")[1].split(">")[0].strip()
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra" not in line
    }
    assert needed == {"torch", "numpy", "soundfile", "librosa"}


def test_importing_prints_nothing_and_loads_nothing_heavy():
    code = (
        "import sys, warnings; import torch; before = set(sys.modules); warnings.simplefilter('error'); "
        "import randommix_audio; new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "heavy = {'librosa', 'numba', 'scipy', 'matplotlib', 'soundfile', 'torchaudio', 'sklearn'} & new; "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_library_works_where_torchaudio_does_not_import(tmp_path):
    (tmp_path / "torchaudio.py").write_text("raise OSError('libc10_cuda.so: cannot open shared object file')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import torch, randommix_audio as rma; "
        "x, frames = rma.LogMel.preset('torchaudio')(torch.randn(3, 16000), torch.tensor([16000, 9000, 0])); "
        "mixed, plan = rma.RandomMix(per='row')(x, lengths=frames); assert mixed.isfinite().all()"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
