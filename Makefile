# On a machine with Python 3.10 or later, git and make, these work from a fresh clone:
#   make demo   train a keyword model on speech made on the spot, and draw what happened
#   make test   the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Version pins of everything that is installed here; the library itself accepts a range.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/python -m data_prep.demo_speech --root data/demo
	$(BIN)/python -m data_prep.speech_commands --root data/demo
	$(BIN)/python -m recipes.speech_commands.train --config recipes/speech_commands/conf/demo.yaml --resume auto
	@echo "This was synthetic speech: it shows that everything works. For real speech: recipes/speech_commands/README.md"

test: $(VENV)/.dev
	# one thread for each of the processes: more of them only wait for each other
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses auto $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist *.egg-info

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
