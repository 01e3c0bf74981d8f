#!/bin/sh
# What `make test` runs. Every step runs, also after one has failed; pytest comes last, so that its counts close the log.
cd "$(dirname "$0")/.." || exit 1
export FLATLAB_SCALE=laptop
export OMP_NUM_THREADS=1 # two workers on two cores: more threads would only wait for each other
lint=passed
.venv/bin/ruff check . || lint=FAILED
.venv/bin/ruff format --check . || lint=FAILED

notebooks=$(ls notebooks/*.ipynb 2>/dev/null)
# nbval runs the notebooks; tests/ holds the unit tests, the rules for notebooks, the exercises and the browser test.
# shellcheck disable=SC2086 # one argument per notebook
.venv/bin/python -m pytest -q -n 2 --dist loadscope \
    --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests $notebooks
tests=$?

[ "$lint" = passed ] || echo "make test: ruff found problems, see the top of this log"
[ "$tests" -eq 0 ] && [ "$lint" = passed ]
