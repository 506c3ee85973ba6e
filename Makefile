# `make demo` and `make test` are the two commands of the README; each works alone on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow torture benchmark clean

# What searching one's own files needs.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vlm2vec needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.all: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,check]"
	touch $@

demo: $(VENV)/.base
	$(BIN)/python demo/run.py

# One process a core: a second thread in each would only wait for the others.
test: $(VENV)/.all
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

slow: $(VENV)/.all
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow and not torture"

torture: $(VENV)/.all
	$(BIN)/python -m pytest -m torture

benchmark: $(VENV)/.all
	$(BIN)/python -m pip install --quiet --constraint constraints.txt sentence-transformers
	$(BIN)/python benchmarks/speed/encode.py
	$(BIN)/python benchmarks/speed/memory.py
	$(BIN)/python benchmarks/speed/mixed.py
	$(BIN)/python benchmarks/speed/search.py
	$(BIN)/python benchmarks/speed/start.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/speed/training_step.py
	$(BIN)/python benchmarks/mini.py
	$(BIN)/python benchmarks/default_model.py films texts cold
	$(BIN)/python benchmarks/speed/tables.py
	$(BIN)/python benchmarks/speed/plots.py

clean:
	rm -rf $(VENV) samples/.vlm2vec
