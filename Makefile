# `make help` lists the targets. Each one makes .venv by itself, once, from the pinned versions in requirements/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-input
PROTOS = $(shell find protos -name '*.proto' | sort)

# The fast ones first, then those that start TensorFlow; a new folder of tests joins at the end by itself.
FAST := $(addprefix tests/,protocol storage journal bundle rpc launch cli)
SLOW := $(addprefix tests/,simulation readers tensorflow keras faults)
FOLDERS := $(patsubst %/,%,$(wildcard tests/*/))
TESTS = $(wildcard tests/test_*.py) $(filter $(FOLDERS),$(FAST)) $(filter-out $(FAST) $(SLOW),$(FOLDERS)) \
	$(filter $(FOLDERS),$(SLOW))

# Two tests at a time; who has done its half takes from the other's.
TWO := -n 2 --dist worksteal

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

.PHONY: demo
demo: $(VENV)/has-demo $(VENV)/has-distckpt ## two workers train, one is killed, the job resumes, the result is proved (ARGS="--keep DIR")
	@$(VENV)/bin/distckpt demo $(ARGS)

.PHONY: test
test: $(VENV)/has-test $(VENV)/has-distckpt ## all tests, two at a time (ARGS="-k name")
	@$(PY) -m pytest $(TWO) $(TESTS) $(ARGS)

.PHONY: lint
lint: $(VENV)/has-lint $(VENV)/has-distckpt ## ruff check, ruff format --check, mypy --strict
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

.PHONY: sim
sim: $(VENV)/has-test $(VENV)/has-distckpt ## the simulation at length: 200,000 seeded schedules
	@DISTCKPT_SIM_SCHEDULES=200000 $(PY) -m pytest $(TWO) tests/simulation -o timeout=0 $(ARGS)

.PHONY: torture
torture: $(VENV)/has-test $(VENV)/has-demo $(VENV)/has-distckpt ## real trainings of 2 to 4 workers, killed and frozen 200 times (DISTCKPT_TORTURE_ROUNDS, _MINUTES, _SEED)
	@DISTCKPT_TORTURE_ROUNDS=$${DISTCKPT_TORTURE_ROUNDS:-200} $(PY) -m pytest -v tests/faults/test_torture.py $(ARGS)

.PHONY: crashes
crashes: $(VENV)/has-test $(VENV)/has-distckpt ## every power loss, every system call failing with every error (an ext4 to cut off needs root)
	@DISTCKPT_CRASH_STATES=all DISTCKPT_FAILING_CALLS=all $(PY) -m pytest -s tests/commit/test_power_loss.py \
		tests/commit/test_failing_calls.py tests/commit/test_real_file_system.py -o timeout=0 $(ARGS)

.PHONY: model
model: $(VENV)/has-test $(VENV)/has-distckpt ## every state of small jobs: all orders of all messages, deaths, faults, two chiefs
	@DISTCKPT_MODEL_STATES=$${DISTCKPT_MODEL_STATES:-5000000} $(PY) -m pytest -s tests/model_checking $(ARGS)

.PHONY: zombies
zombies: $(VENV)/has-test $(VENV)/has-distckpt ## two chiefs that start on one directory at once, 1,000 times; chiefs that wake up late
	@DISTCKPT_DUELS=$${DISTCKPT_DUELS:-1000} DISTCKPT_ORDERS=all $(PY) -m pytest -s tests/commit/test_two_chiefs.py \
		tests/commit/test_zombies.py tests/commit/test_withdrawal.py $(ARGS)

.PHONY: notices
notices: $(VENV)/has-test $(VENV)/has-demo $(VENV)/has-distckpt ## a real training, its workers told to go with SIGTERM 20 times
	@DISTCKPT_NOTICES=$${DISTCKPT_NOTICES:-21} $(PY) -m pytest tests/faults/test_notices.py $(ARGS)

.PHONY: mutants
mutants: $(VENV)/has-test $(VENV)/has-distckpt ## leaves out each fsync, fence and checksum in turn; writes docs/mutants.md
	@$(PY) tests/mutation/mutants.py --table docs/mutants.md $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/has-fuzz $(VENV)/has-distckpt ## every parser under atheris, a minute each (ARGS="--seconds 600 manifest")
	@$(PY) tests/fuzz/fuzz.py $(ARGS)

.PHONY: bench
bench: $(VENV)/has-bench $(VENV)/has-distckpt ## saving and restoring beside stock TensorFlow and the machine's limits (ARGS="--mib 256")
	@$(PY) benchmarks/save.py $(ARGS)

.PHONY: browser
browser: $(VENV)/has-test $(VENV)/has-distckpt ## the dashboard in a real Chromium, installed by apt-get where there is none (ARGS=...)
	@command -v chromium-headless-shell chromium chromium-browser google-chrome >/dev/null \
		|| apt-get install --yes --no-install-recommends chromium-headless-shell fonts-dejavu-core
	@$(PY) -m pytest tests/browser $(ARGS)

.PHONY: bench-scale
bench-scale: $(VENV)/has-distckpt ## 100,000 tensors, 100,000 journal records, 10,000 variables, an idle step (ARGS="--directory DIR")
	@$(PY) benchmarks/scale.py $(ARGS)

.PHONY: bench-agents
bench-agents: $(VENV)/has-distckpt ## agreement and commit of 10 to 1,000 workers over real sockets (ARGS="--workers 4096")
	@$(PY) benchmarks/agents.py $(ARGS)

.PHONY: bench-shares
bench-shares: $(VENV)/has-distckpt ## one slow worker: shares by speed; what the check for silent corruption costs (ARGS="--directory /dev/shm")
	@$(PY) benchmarks/shares.py $(ARGS)

.PHONY: deploy
deploy: $(VENV)/has-test $(VENV)/has-distckpt ## the containers and scripts of deploy/ as processes, killed and restarted; the image's build, without Docker
	@DISTCKPT_DEPLOY_FULL=1 $(PY) -m pytest tests/deploy $(ARGS)

.PHONY: proto
proto: $(VENV)/has-test ## generate the protobuf code again from protos/ (the result is committed)
	@for proto in $(PROTOS); do \
		services=(); grep -q '^service ' "$$proto" && services=(--grpc_python_out=.); \
		echo "$$proto"; $(PY) -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. "$${services[@]}" "$$proto"; \
	done

.PHONY: lock
lock: ## write requirements/*.txt again after a change of what is required (ARGS=--upgrade: take the newest)
	@bash requirements/make-venv.sh $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	@$(VENV)/lock/bin/python requirements/lock.py $(ARGS)

# A stamp in .venv says that a lock file has been installed, so that the second call starts at once. Each lock builds on
# the one before it.
$(VENV)/made: requirements/make-venv.sh
	@bash requirements/make-venv.sh $(VENV)
	@touch $@

$(VENV)/has-demo: $(VENV)/has-runtime
$(VENV)/has-test: $(VENV)/has-demo
$(VENV)/has-lint: $(VENV)/has-test
$(VENV)/has-bench: $(VENV)/has-runtime
$(VENV)/has-fuzz: $(VENV)/has-runtime
$(VENV)/has-distckpt: pyproject.toml $(VENV)/has-runtime
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/has-%: requirements/%.txt $(VENV)/made
	@echo "Installing what requirements/$*.txt pins$(if $(filter runtime,$*), (TensorFlow is a download of several hundred MB))"
	@$(PIP) --require-hashes --requirement $<
	@touch $@
