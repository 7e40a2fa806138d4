"""Nobody needs a toolkit that he does not use."""

import subprocess
import sys

TOOLKITS = ("speechbrain", "lhotse", "transformers", "lightning", "pytorch_lightning", "torch_audiomentations", "hydra")
FREE = (
    "collate",
    "espnet",
    "lhotse",
    "nemo",
    "speechbrain",
    "transformers",
    "wenet",
)  # adapters that work on tensors and dicts alone


def run(code):
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)


def test_the_library_imports_no_toolkit_and_most_adapters_none_either():
    adapters = "".join(f"import randommix_audio.integrations.{name}\n" for name in FREE)
    done = run(f"import sys, randommix_audio\n{adapters}print([name for name in {TOOLKITS} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_a_missing_toolkit_is_named_with_how_to_get_it():
    code = """
import sys
for toolkit in ("lightning", "pytorch_lightning", "torch_audiomentations"):
    sys.modules[toolkit] = None
for name in ("lightning", "torch_audiomentations"):
    try:
        __import__(f"randommix_audio.integrations.{name}")
    except ImportError as error:
        print(error)
"""
    lines = run(code).stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("pip install lightning")
    assert lines[1].endswith("pip install torch-audiomentations")
