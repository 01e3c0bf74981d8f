#!/bin/sh
# Makes .venv and installs the course into it; `make setup` calls it. Stops with one sentence when it cannot.
#   PYTHON       the Python to use (default: the first of python3, python3.13, 3.12, 3.11 that is new enough)
#   TORCH_INDEX  another index for torch alone, such as PyTorch's index of CPU wheels
set -u
cd "$(dirname "$0")/.." || exit 1
venv=.venv
log=$venv/install.log
venv_python=$venv/bin/python

stop() {
    echo "flatlab: $*" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="not found"
    stop "Python 3.11 or newer is needed, and ${PYTHON:-python3} is ${found}: install a newer one, or name one with" \
        "\`make setup PYTHON=/path/to/python3.12\`."
}

make_venv() {
    if new_enough "$venv_python" && "$venv_python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python) || exit 1
    echo "flatlab: making $venv with $("$python" --version)"
    mkdir -p "$venv" && "$python" -m venv --clear "$venv" >/dev/null 2>&1 && return
    stop "$python cannot make a virtual environment: it lacks venv or pip" \
        "(on Debian and Ubuntu: \`sudo apt install python3-venv\`)."
}

install() {
    "$venv_python" -m pip install --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 && return
    if grep -qiE 'NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|name resolution|Max retries' "$log"; then
        stop "the packages could not be fetched: is this machine online? The details are in $log."
    fi
    stop "pip could not install the packages: $(grep '^ERROR' "$log" | head -n 1) The details are in $log."
}

make_venv
: >"$log"
torch=$(grep '^torch==' constraints.txt)
echo "flatlab: installing $torch (the first time takes some minutes; the log is $log)"
# Torch comes first and alone, so that TORCH_INDEX serves it and nothing else.
install "$torch" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
echo "flatlab: installing the course, JupyterLab and the test tools"
install -e ".[lab,test]" -c constraints.txt
