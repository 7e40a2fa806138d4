"""Nobody needs a toolkit that he does not use."""

import subprocess
import sys

import pytest

TOOLKITS = ("speechbrain", "lhotse", "transformers", "lightning", "pytorch_lightning", "torch_audiomentations", "hydra")
FREE = ("collate", "lhotse", "speechbrain", "transformers")  # adapters that work on tensors and dicts alone


def run(code):
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)


def test_the_library_imports_no_toolkit_and_most_adapters_none_either():
    adapters = "".join(f"import randommix_audio.integrations.{name}\n" for name in FREE)
    done = run(f"import sys, randommix_audio\n{adapters}print([name for name in {TOOLKITS} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "name, missing, install",
    [
        ("lightning", ["lightning", "pytorch_lightning"], "pip install lightning"),
        ("torch_audiomentations", ["torch_audiomentations"], "pip install torch-audiomentations"),
    ],
)
def test_a_missing_toolkit_is_named_with_how_to_get_it(name, missing, install):
    hidden = "".join(f"sys.modules[{toolkit!r}] = None\n" for toolkit in missing)
    done = run(f"import sys\n{hidden}import randommix_audio.integrations.{name}")
    assert done.stderr.strip().endswith(install)
