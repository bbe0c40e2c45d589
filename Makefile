# `make demo` and `make test` do all the set-up they need: Python 3.11+ and make are enough.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
EXAMPLE ?= assets/examples/shapes.png
PROMPT ?= Describe the image.
ARGS ?=
CLIENTS ?= all
# What everybody who works on this has installed, but torch and what is only for its CUDA builds.
LOCK := deploy/dev-requirements.txt
# More than there are cores: many tests wait for servers and browsers.
JOBS ?= 3
# Rules without a server, a browser or weights: modes, pages, grouping, queue, frames, parsers.
FAST := $(addprefix tests/unit/,decoding engine serving) tests/integration/engine/test_packing.py \
	$(patsubst %,tests/unit/app/test_%.py,base64_pieces data_uri header_values json_text parsing \
	proxies url_policy validation)
SLOW := -k "not the_logits_it_gets_alone" --ignore tests/unit/decoding/test_toy_twins.py

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help install demo compare serve test test-fast clients newcomer lint fmt types check bench lock docs clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## Create .venv and install everything into it

$(STAMP): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing $(TORCH) (the first time takes minutes)"
	@$(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") "$(TORCH)"
	@echo "Installing vlm-dlm and its tools"
	@# what takes pip minutes takes uv seconds; where it has no build or no way out, pip it is
	@{ $(PIP) uv -c $(LOCK) && $(UV) -e ".[app,dev]" -c $(LOCK); } 2> $(VENV)/uv.log \
		|| $(PIP) -e ".[app,dev]" -c $(LOCK)
	@touch $@

demo: $(STAMP)  ## Open the page: your image, every mode side by side
	@$(BIN)/vlm-dlm serve --open $(ARGS)

compare: $(STAMP)  ## Compare the decoding modes on an example image, in the terminal
	@$(BIN)/vlm-dlm compare --image "$(EXAMPLE)" --prompt "$(PROMPT)" $(ARGS)

serve: $(STAMP)  ## Serve the embedded model on http://127.0.0.1:8000
	@$(BIN)/vlm-dlm serve $(ARGS)

test: $(STAMP)  ## Run the tests, JOBS=3 at once (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -q -n $(JOBS) --durations 25 --ignore tests/clients $(ARGS)

test-fast: $(STAMP)  ## Run those of milliseconds: modes, scheduling, parsers (about 40 s)
	@$(BIN)/python -m pytest -q -n $(JOBS) -p no:schemathesis $(FAST) $(SLOW) $(ARGS)

clients: $(STAMP)  ## Run every recipe of docs/clients.md (CLIENTS=light, or llm,guidellm, for some)
	@TEST_CLIENTS="$(CLIENTS)" $(BIN)/python -m pytest -q tests/clients $(ARGS)

newcomer:  ## Replay the README on a clean copy, in an environment of its own
	@$(PYTHON) tests/newcomer/replay.py $(ARGS)

lint: $(STAMP)  ## Check style, format and layering
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@test ! -x $(BIN)/biome || $(BIN)/biome check --error-on-warnings

fmt: $(STAMP)  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@test ! -x $(BIN)/biome || $(BIN)/biome format --write

types: $(STAMP)  ## Check types
	@$(BIN)/pyright

check: lint types test  ## Everything a change must pass

bench: $(STAMP)  ## Measure the modes on this machine
	@$(BIN)/python -m benchmarks.decode $(ARGS)

lock:  ## Pin what `make install` takes to the newest there is
	@$(BIN)/uv pip compile pyproject.toml --extra app --extra dev --universal --python-version 3.11 \
		--upgrade --no-emit-index-url --no-header --no-annotate --quiet \
		| grep -Ev '^(torch|triton|nvidia-.*|cuda-.*)==' > $(LOCK)

docs: $(STAMP)  ## Write the reference tables of docs/ from the code
	@$(BIN)/python docs/tables.py

clean:  ## Remove the environment and all caches
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .clients
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
