#!/usr/bin/env bash
# Makes the virtual environment $1 with a Python of 3.11 or later; does nothing where there is one already.
# A bare Debian keeps the venv module in a package of its own: as root it is installed, else the message says how.
set -euo pipefail
venv=$1

if "$venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exit 0
fi

for python in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        break
    fi
    python=
done
if [[ -z $python ]]; then
    echo "make: Python 3.11 or later is needed, and neither python3.11 nor python3 is one." >&2
    echo "make: install it (Debian 12: apt-get install python3), or name it: make PYTHON=/path/to/python3" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        echo "make: $python cannot make a virtual environment: its venv module is not installed." >&2
        echo "make: on Debian and Ubuntu: sudo apt-get install $package" >&2
        exit 1
    fi
    echo "Installing $package: $python comes without its venv module here"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$package" >/dev/null
fi

echo "Making $venv with $("$python" --version)"
"$python" -m venv --clear "$venv"
