# Each target does all its set-up. A bare machine needs Python 3.10 to 3.13 (on Debian and Ubuntu: python3-venv), make, git.
# OpenMMLab's own stack (test-openmmlab) is tested on 3.11 to 3.13 only.

PYTHON ?= python3
VENV ?= .venv
VENV_OPENMMLAB ?= .venv-openmmlab
SUDO := $(shell [ $$(id -u) = 0 ] || echo sudo)
BIN := $(VENV)/bin
BIN_OPENMMLAB := $(VENV_OPENMMLAB)/bin

# With a WHEELHOUSE, which `make wheelhouse` has filled, every package comes from there and the network is not asked.
WHEELHOUSE ?=
OFFLINE = $(if $(WHEELHOUSE),PIP_NO_INDEX=1 PIP_FIND_LINKS='$(abspath $(WHEELHOUSE))')
COLLECTED := $(or $(WHEELHOUSE),wheelhouse)
MADE_FOR := 'import platform as p; print("Python", *p.python_version_tuple()[:2], p.system(), p.machine())'

.DEFAULT_GOAL := help
.PHONY: help install wheelhouse quickstart test test-slow test-openmmlab lint docs browser slurm clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed ## Make the environment .venv with the default stack and this project in it

wheelhouse: OFFLINE =
wheelhouse: ## Collect in wheelhouse/ all that `make install WHEELHOUSE=wheelhouse` needs on a machine without network
	$(call make-environment,build/wheelhouse-env)
	rm -rf build/lib $(COLLECTED)/SHA256SUMS
	build/wheelhouse-env/bin/python -m pip wheel --wheel-dir $(COLLECTED) \
		pip -r requirements/onedl.txt -r requirements/dev.txt .
	build/wheelhouse-env/bin/python -c $(MADE_FOR) > $(COLLECTED)/MADE_FOR
	cd $(COLLECTED) && sha256sum MADE_FOR *.whl > SHA256SUMS
	rm -rf build/wheelhouse-env

quickstart: install ## Pre-train a tiny VasoMIM on simulated angiograms and draw what it reconstructs; a small benchmark
	$(BIN)/vasomim synthesize data/quickstart --layout folder --frames 160
	$(BIN)/vasomim extract data/quickstart
	$(BIN)/vasomim train configs/pretrain/quickstart.py --work-dir work_dirs/quickstart --resume
	$(BIN)/vasomim visualize work_dirs/quickstart data/quickstart work_dirs/quickstart/reconstructions.png
	$(BIN)/vasomim benchmark run --smoke --seeds 1 --only task=arcade_v method=vasomim,scratch \
		--no-estimate --jobs 2 --work-dir work_dirs/quickstart/benchmark --results work_dirs/quickstart/benchmark/results

test: install ## Run the tests on the default stack, but for the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

test-slow: install ## Run the slow tests: whole trainings, kills and restarts, every command of the README
	$(BIN)/python -m pytest -m slow

test-openmmlab: $(VENV_OPENMMLAB)/.installed ## Build, train and resume each library on OpenMMLab's own last releases
	$(BIN_OPENMMLAB)/python -m pytest tests/smoke tests/test_compat.py

lint: install ## Check style and types, and that no room of the package imports one above it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: install ## Build the documentation; broken links, and a leaderboard that differs from the results, are errors
	$(BIN)/python -m vasomim.benchmark.reporting.publish --check
	$(BIN)/mkdocs build --strict --site-dir build/site

browser: ## Install Debian's Chromium, for the test of the leaderboard's page
	command -v chromium || { $(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends chromium; }

slurm: ## Install Debian's Slurm, for the tests of the benchmark's jobs on a cluster
	PATH="$$PATH:/usr/sbin"; { command -v slurmctld && command -v slurmd && command -v munged; } \
		|| { $(SUDO) apt-get update && $(SUDO) apt-get install -y --no-install-recommends slurm-wlm munge; }

clean: ## Remove the environments and caches; data/ and work_dirs/ stay
	rm -rf $(VENV) $(VENV_OPENMMLAB) build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# The file .installed is written last, so an interrupted install is done again, and a finished one is not repeated.
$(VENV)/.installed: setup.py pyproject.toml requirements/onedl.txt requirements/dev.txt
	$(call check-wheelhouse)
	$(call make-environment,$(VENV))
	$(OFFLINE) $(BIN)/python -m pip install -r requirements/onedl.txt -r requirements/dev.txt -e .
	$(call finish-environment,$(BIN),requirements/onedl.txt)
	touch $@

$(VENV_OPENMMLAB)/.installed: setup.py pyproject.toml requirements/openmmlab.txt requirements/dev.txt
	$(call make-environment,$(VENV_OPENMMLAB))
	VASOMIM_STACK=openmmlab $(BIN_OPENMMLAB)/python -m pip install -r requirements/openmmlab.txt -r requirements/dev.txt -e .
	$(call finish-environment,$(BIN_OPENMMLAB),requirements/openmmlab.txt)
	touch $@

# Sound, and made by this Python: wheels of another one would not be found, whatever their versions.
define check-wheelhouse
	@[ -z '$(WHEELHOUSE)' ] || { cd '$(WHEELHOUSE)' && sha256sum --check --quiet SHA256SUMS; } \
		|| { echo '$(WHEELHOUSE) is not whole. Copy it again, or run make wheelhouse where there is a network.'; exit 1; }
	@[ -z '$(WHEELHOUSE)' ] || $(PYTHON) -c $(MADE_FOR) | cmp -s - '$(WHEELHOUSE)/MADE_FOR' \
		|| { echo "$(WHEELHOUSE) was made for: $$(cat '$(WHEELHOUSE)/MADE_FOR'). Pass that Python: make PYTHON=..."; exit 1; }
endef

define make-environment
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo 'Python 3.10 to 3.13 is needed: make PYTHON=python3.12 ...'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' \
		|| { echo 'This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv $(1)
	$(OFFLINE) $(1)/bin/python -m pip install --upgrade pip
endef

# Both opencv-python and opencv-python-headless unpack into cv2; the headless one has to come last, as it needs no libGL.
define finish-environment
	$(OFFLINE) $(1)/python -m pip install --no-deps --force-reinstall "$$(grep opencv-python-headless== $(2))"
endef
