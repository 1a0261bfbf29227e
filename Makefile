# `make demo` and `make test` set themselves up: they need Python ≥ 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo finetune test test-slow lint notebooks docs bench clean

demo: $(READY)  ## train a digit classifier, then fool it through function values only
	$(BIN)/python -m benchmarks attack --quick

finetune: $(READY)  ## teach a language model about film reviews, by values alone
	$(BIN)/python -m benchmarks finetune --quick

test: lint  ## everything: unit, contract, statistical, doctests, README, notebooks
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## what takes long: larger sizes, second settings of the contract
	XLA_FLAGS= $(BIN)/python -m pytest -m slow -o faulthandler_timeout=1800

lint: $(READY)  ## ruff and mypy, over the package, the benchmarks, the examples and the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(READY)  ## run the notebooks and keep their outputs
	$(BIN)/python -m notebooks

docs: $(VENV)/.docs  ## the documentation, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file docs/mkdocs.yml
	@echo "open build/site/index.html"

bench: $(READY)  ## the benchmarks in full
	for case in speed attack box-attack hessian-error synthetic newton noise drift stochastic \
		finetune papers zo-sah blackbox laplace bilevel faults outside devices populations; do \
		$(BIN)/python -m benchmarks $$case --full || exit 1; done

$(READY): EXTRA = test
$(VENV)/.docs: EXTRA = docs
$(READY) $(VENV)/.docs: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "zovh_jax needs Python >= 3.11; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRA)]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
