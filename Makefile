# Every target does its own set-up (tools/setup); nothing else is needed beforehand but make itself.
#   make demo     watch a subject improve itself under governance, and turn the keys yourself
#   make demo-openevolve  the same with OpenEvolve, a loop that we did not write
#   make test     the tests that take seconds
#   make check    the same as CI asks of every change: format, lint, types, house, tests
#   make slow     the long suites: slow tests and the simulated world
#   make judges   have programs that others wrote judge our formats
#   make bench    measure, and write the numbers under bench/results
#   make format   let the formatter have its way
# ARGS="..." is handed on to the program or to pytest.

.NOTPARALLEL:
.PHONY: help demo demo-openevolve test house lint check slow judges bench format lock clean

help:
	@sed -n 's/^#   //p' Makefile

demo:
	@tools/setup run
	@.venv/bin/keyturn demo $(ARGS)

demo-openevolve:
	@tools/setup openevolve
	@.venv/bin/keyturn openevolve demo $(ARGS)

test:
	@tools/setup test
	@.venv/bin/python -m pytest -m "not slow and not bench and not judges" $(ARGS)

house:
	@tools/setup test
	@.venv/bin/python -m pytest -q tests/house $(ARGS)

lint:
	@tools/setup test
	@status=0; \
	.venv/bin/ruff check --output-format concise . || status=1; \
	.venv/bin/mypy || status=1; \
	.venv/bin/ruff format --check . || status=1; \
	exit $$status

check: lint test

slow:
	@tools/setup test
	@.venv/bin/python -m pytest -m "(slow or world) and not bench and not judges" $(ARGS)

judges:
	@tools/setup judges
	@.venv/bin/python -m pytest -m judges $(ARGS)

bench:
	@tools/setup test
	@set -e; for file in bench/*.py; do echo "== $$file"; .venv/bin/python -m "bench.$$(basename "$$file" .py)" $(ARGS); done

format:
	@tools/setup test
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lock:
	@tools/lock $(ARGS)

clean:
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
