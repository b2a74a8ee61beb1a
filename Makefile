# make run    the main job: all algorithms on the iot-4g scenario, live, with tables at the end
# make test   linters, types, tests
# make bench  figures about the emulator itself on this machine (about an hour, and 35 for the paper-sized rounds)
# make kernel-check  links and a training beside the kernel's own TCP, namespaces and quotas (root; about 6 minutes)
# make pictures  the README's pictures and tables, from a run of the main job on the virtual clock (two minutes)
# Each makes .venv first, once.

PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: run test bench kernel-check pictures lint clean

run: $(VENV)/ready
	$(VENV)/bin/python run.py --profile iot-4g --report $(ARGS)

test: export PYTHONDONTWRITEBYTECODE =
test: $(VENV)/ready lint  # bytecode is kept, or each process would compile what it loads anew
	$(VENV)/bin/python -m pytest -m 'not processes' -n auto --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS) || [ $$? -eq 5 ]
	$(VENV)/bin/python -m pytest -m processes --durations=10 $(ARGS) || [ $$? -eq 5 ]

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy & types=$$!; $(VENV)/bin/lint-imports; imports=$$?; wait $$types && exit $$imports

bench: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks $(ARGS)

kernel-check: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks.kernel_check $(ARGS)

pictures: $(VENV)/ready
	$(VENV)/bin/python -m benchmarks.pictures

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
