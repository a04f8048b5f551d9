# `make demo`: XOR, then handwritten digits, being learned. `make test`: the tests.
# Both use the virtual environment .venv, which is made first where it is missing.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

demo: $(BIN)/activate
	$(BIN)/pip install -q -e ".[examples]"
	$(BIN)/python examples/xor.py
	$(BIN)/python examples/mnist.py --data digits

test: $(BIN)/activate
	$(BIN)/pip install -q -e ".[test]"
	$(BIN)/python -m pytest -n auto

$(BIN)/activate:
	$(PYTHON) -m venv .venv

.PHONY: demo test
