# Everything runs in .venv, which the first target that needs it builds. PYTHON may name another interpreter.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
COMPAT_BIN := .venv-compat/bin
COMPAT_READY := .venv-compat/.ready
TRACKING_BIN := .venv-tracking/bin
TRACKING_READY := .venv-tracking/.ready

.PHONY: demo test test-compat test-tracking test-faults test-fuzz test-slurm lint types bench bench-search bench-scale bench-peers bench-accuracy docs clean

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# recpack needs older versions of what we use, so it gets an environment of its own.
$(COMPAT_READY): requirements-compat.lock pyproject.toml
	$(PYTHON) -m venv .venv-compat
	$(COMPAT_BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-compat.lock
	$(COMPAT_BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(COMPAT_READY)

# MLflow, wandb and TensorBoard are a GB that nothing else needs.
$(TRACKING_READY): requirements-tracking.lock pyproject.toml
	$(PYTHON) -m venv .venv-tracking
	$(TRACKING_BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-tracking.lock
	$(TRACKING_BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(TRACKING_READY)

demo: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh $(if $(DATA),"$(DATA)") $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest

test-compat: $(COMPAT_READY)
	$(COMPAT_BIN)/python -m pytest tests/compat

test-tracking: $(TRACKING_READY)
	$(TRACKING_BIN)/python -m pytest tests/tracking

# Searches killed at random, one of thousands of trials, and ones that lose a worker, the head or the storage; more than
# an hour, as root for the last.
test-faults: $(READY)
	$(BIN)/python tests/faults/campaign.py --kills 60 $(ARGS)
	$(BIN)/python tests/faults/soak.py
	$(BIN)/python -m pytest tests/multi_node/test_losses.py

# Readers and parsers under a million inputs, an hour and more; x86-64 Linux only, where atheris runs.
test-fuzz: $(READY)
	$(BIN)/python tests/fuzz/run.py all --runs 1000000 --seed 1 $(ARGS)

# A real Slurm on this machine: as root, after apt-get install slurmctld slurmd slurm-client munge.
test-slurm: $(READY)
	$(BIN)/python -m pytest tests/multi_node/test_slurm.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

# Speed, about half an hour. OFFICIAL=FOLDER, a checkout of the authors' GRU4Rec for PyTorch, is measured beside ours.
bench: $(READY)
	$(BIN)/python benchmarks/train_step.py $(if $(OFFICIAL),--official "$(OFFICIAL)")
	$(BIN)/python benchmarks/evaluate.py $(if $(OFFICIAL),--official "$(OFFICIAL)")
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/recommend.py
	$(BIN)/python benchmarks/time_to_accuracy.py $(if $(OFFICIAL),--official "$(OFFICIAL)")
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/serving_engines.py

# Searches replayed from recorded curves: ours beside others, on up to 1,024 workers, and variants of ASHA.
bench-search: $(READY)
	$(BIN)/python benchmarks/search_efficiency.py
	$(BIN)/python benchmarks/search_efficiency.py --variants --seeds 21

# How many slots one search can keep busy, about eight minutes: simulated, and on small real clusters on this machine.
bench-scale: $(READY)
	$(BIN)/python benchmarks/controller_scale.py $(ARGS)

# Speed beside other libraries, each in an environment of its own under .venv-peers.
bench-peers: $(READY)
	$(BIN)/python benchmarks/peers_speed.py $(ARGS)

# Other libraries beside ours, each in an environment of its own under .venv-peers.
bench-accuracy: $(READY)
	$(BIN)/python benchmarks/accuracy.py $(ARGS)

docs: $(READY)
	$(BIN)/python docs/build.py

clean:
	rm -rf .venv .venv-compat .venv-tracking .venv-peers demo-output cluster-output docs/api fuzz-findings
