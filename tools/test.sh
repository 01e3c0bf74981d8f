#!/bin/sh
# What `make test` runs: everything, or with NB=06 one notebook (its rules, its one run, its exercises).
# Every step runs, also after one has failed; pytest comes last, so that its counts close the log.
cd "$(dirname "$0")/.." || exit 1
export FLATLAB_SCALE=laptop
export OMP_NUM_THREADS=1 # two workers on two cores: more threads would only wait for each other
bin=.venv/bin
failed=

step() { # step NAME COMMAND...: runs the command and notes a failure under this name
    name=$1
    shift
    "$@" || failed="$failed $name"
}

# nbval runs each notebook once, and tests/lesson_run.py adds the memory, the hidden solutions and the mistakes to that
# run. The time limits are safety nets for a machine that stops to breathe.
run_pytest() {
    $bin/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder \
        --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=600 "$@"
}

if [ -n "${NB:-}" ]; then
    # shellcheck disable=SC2086 # one argument per number
    stems=$($bin/python tools/notebooks.py names $NB) || exit 1
    for stem in $stems; do
        notebooks="${notebooks:-} notebooks/$stem.ipynb"
        twins="${twins:-} notebooks/py/$stem.py"
        chosen="${chosen:+$chosen or }$stem"
    done
    # shellcheck disable=SC2086 # one argument per notebook
    step ruff $bin/ruff check $twins
    # shellcheck disable=SC2086
    step pytest run_pytest $notebooks tests/test_notebooks.py -k "$chosen"
else
    step ruff $bin/ruff check .
    step format $bin/ruff format --check .
    step floors $bin/lint-imports --no-logo --no-cache
    step types $bin/mypy
    # The notebooks begin, the longest first; tests/ holds the unit tests, the rules for notebooks and the browser test.
    # shellcheck disable=SC2046 # one argument per notebook
    step pytest run_pytest $(ls -r notebooks/*.ipynb 2>/dev/null) tests
fi

[ -z "$failed" ] || echo "make test: FAILED:$failed (see above)"
[ -z "$failed" ]
