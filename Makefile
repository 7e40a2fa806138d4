# On a machine with Python 3.10 or later, git and make, these work from a fresh clone:
#   make demo   train a keyword model on speech made on the spot, and draw what happened
#   make test   the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Version pins of everything that is installed here; the library itself accepts a range.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-toolkits lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/python -m data_prep.demo_speech --root data/demo
	$(BIN)/python -m data_prep.speech_commands --root data/demo
	$(BIN)/python -m recipes.speech_commands.train --config recipes/speech_commands/conf/demo.yaml --resume auto
	@echo "This was synthetic speech: it shows that everything works. For real speech: recipes/speech_commands/README.md"

test: $(VENV)/.dev
	# one thread for each of the processes: more of them only wait for each other
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses auto $(PYTEST_ARGS)

# Toolkits that need other versions of most things, each in an environment of its own (several GB each); not part of `test`.
test-toolkits: .venv-espnet/.made .venv-nemo/.made
	.venv-espnet/bin/python -m pytest tests/integrations/own_environment/espnet_asr.py
	.venv-nemo/bin/python -m pytest tests/integrations/own_environment/nemo_ctc.py

.venv-espnet/.made: TOOLKIT := 'espnet==202511' 'torchaudio==2.11.0'
.venv-nemo/.made: TOOLKIT := 'nemo_toolkit[asr]==3.0.0'
.venv-%/.made: pyproject.toml
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable . $(TOOLKIT) pytest pytest-timeout
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .venv-espnet .venv-nemo build dist *.egg-info

$(VENV)/.made:
	$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 10) else 'error: Python 3.10 or later is needed, this is ' + sys.version.split()[0] + '; name another with make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing the packages (PyTorch is several GB; once)"
	$(PIP_INSTALL) --editable '.[demo]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing the packages (PyTorch is several GB; once)"
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@
