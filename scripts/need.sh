#!/bin/sh
# Finds or installs what pip cannot: `need.sh python|graphviz|chromium|node`. Asks nothing.
set -eu
export DEBIAN_FRONTEND=noninteractive
PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
may_apt() { [ "$(id -u)" = 0 ] && have apt-get; }
apt() {
    say "installing $* with apt-get"
    apt-get -qq install --yes --no-install-recommends "$@" >/dev/null 2>&1 && return
    # A machine that was just made has no package lists yet.
    apt-get -qq update >/dev/null && apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

# Makes $VENV with a Python that is new enough.
need_python() {
    if ! have "$PYTHON"; then
        say "pulpo needs Python 3.11 or later, and '$PYTHON' is not there. Name one: make PYTHON=/path/to/python3.12"
        exit 1
    fi
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        say "pulpo needs Python 3.11 or later; '$PYTHON' is $("$PYTHON" -V 2>&1). Name another: make PYTHON=/path/to/python3.12"
        exit 1
    fi
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    if ! "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1 && may_apt; then
        apt python3-venv || say "apt-get could not install python3-venv"
    fi
    if "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        "$PYTHON" -m venv "$VENV"
    elif have virtualenv; then
        virtualenv -q -p "$PYTHON" "$VENV"
    else
        say "'$PYTHON' cannot make a virtual environment. Install python3-venv (as root: apt-get install python3-venv) or virtualenv, then run make again."
        exit 1
    fi
}

need_graphviz() {
    have dot && return
    if may_apt && apt graphviz && have dot; then return; fi
    say "no 'dot' here: pictures are drawn by the pygraphviz wheel. To get dot, as root: apt-get install graphviz"
}

# The browser tests are part of the suite, so a missing browser is no silent skip.
need_chromium() {
    [ "${PULPO_NO_BROWSER:-}" = 1 ] && { say "PULPO_NO_BROWSER=1: the browser tests are skipped"; return; }
    if [ -n "${PULPO_CHROMIUM:-}" ]; then
        have "$PULPO_CHROMIUM" && return
        say "PULPO_CHROMIUM=$PULPO_CHROMIUM is no program."
        exit 1
    fi
    for browser in chromium chromium-browser google-chrome; do
        have "$browser" && return
    done
    if may_apt && apt chromium && have chromium; then return; fi
    say "The browser tests need Chromium. As root: apt-get install chromium; or name one: PULPO_CHROMIUM=/path; or go without: PULPO_NO_BROWSER=1 make test"
    exit 1
}

# For the linter of the widgets' JavaScript. Users of pulpo need no Node.
need_node() {
    { have node && have npm; } || { may_apt && apt nodejs npm; } || true
    if ! { have node && have npm; }; then
        say "The linter of pulpo/widgets/*.js needs Node 18.18 or later with npm. As root: apt-get install nodejs npm; or go without: PULPO_NO_NODE=1 make lint"
        exit 1
    fi
    if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 18 || (a === 18 && b >= 18) ? 0 : 1)'; then
        say "The linter of pulpo/widgets/*.js needs Node 18.18 or later; 'node' is $(node --version). Install a later one, or go without: PULPO_NO_NODE=1 make lint"
        exit 1
    fi
}

for tool in "$@"; do
    "need_$tool"
done
