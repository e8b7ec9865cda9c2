# Everything that is done often.  `make demo` and `make test` need nothing but make: they install the rest.

PYTHON := .venv/bin/python
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.PHONY: demo test test-vm lint format bench dev clean

# The main job: trace a command, by the running kernel, or where that may not be (no root, no sudo) by ptrace.
demo: .venv/run.stamp
	$(SUDO) .venv/bin/tracebee -e 'tracepoint:syscalls:sys_enter_openat { printf("%-8s %s\n", comm, str(args.filename)); }' -c 'cat /etc/hostname'

# Every tier that can run here; pytest says in one line each why another cannot.
test: .venv/dev.stamp
	$(PYTHON) -m pytest --durations=10 $(ARGS)

# The language cases on every kernel of the matrix, each in one boot: half an hour on two processors.
test-vm: .venv/dev.stamp
	TRACEBEE_TEST_KERNELS=$(or $(KERNELS),5.10,6.1,6.12,7.2) $(PYTHON) -m pytest tests/vm $(ARGS)

# Style, types, import directions.
lint: .venv/dev.stamp
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	$(PYTHON) -m pytest -q tests/test_structure.py

format: .venv/dev.stamp
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Ratios against bpftrace, strace and uBPF in the same run, as root; writes benchmarks/results.md.
bench: .venv/bench.stamp
	$(PYTHON) -m benchmarks $(ARGS)

dev: .venv/dev.stamp

.venv/run.stamp: pyproject.toml tools/bootstrap
	tools/bootstrap run

.venv/bench.stamp: pyproject.toml tools/bootstrap
	tools/bootstrap bench

.venv/dev.stamp: pyproject.toml tools/bootstrap
	tools/bootstrap dev

clean:
	rm -rf .venv build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
