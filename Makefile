# make run    sets up .venv and runs the main job on the embedded digits; run again, it makes a new run
# make test   sets up the same environment with the test extras and runs the whole gate
# make bench  measures everything, beside the peers that are installed, and writes the tables of README and docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ifndef RUN
RUN := runs/digits-$(shell date +%Y%m%d-%H%M%S)
endif

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test check format bench soak clean

run: $(VENV)/run.stamp
	$(BIN)/evospike evolve digits -o $(RUN)
	$(BIN)/evospike report $(RUN)

test: $(VENV)/test.stamp
	$(MAKE) --no-print-directory check

# The whole gate, tests last; `make test` prepares what it needs.
check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Figures, then the pages that show them; for peers, first: pip install --no-deps -r benchmarks/peers/requirements.txt
bench: $(VENV)/test.stamp
	$(BIN)/evospike bench --force -o benchmarks/results/speed.json
	$(BIN)/python benchmarks/write_speed.py benchmarks/results/speed.json

# The whole list of survival and hostile input at full length; prints the figures and writes the page that shows them.
soak: $(VENV)/test.stamp
	-$(BIN)/pip install --quiet atheris  # guides inputs by coverage; it has no wheel for every Python
	$(BIN)/pytest tests/survival tests/hostile tests/jobs/test_parallel_run.py -n 2 --dist worksteal --soak --soak-figures benchmarks/results/soak.json
	$(BIN)/python benchmarks/write_soak.py benchmarks/results/soak.json

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing evospike and what it needs into $(VENV), which takes some minutes"
	$(BIN)/pip install --quiet --editable '.[data,report,search]'
	touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing evospike and what its tests need into $(VENV), which takes some minutes"
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@
