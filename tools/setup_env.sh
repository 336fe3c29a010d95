# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts beside it: makes the virtual environment and activates
# it. Changes to the repository's root.
#
#   PYTHON  the interpreter to make it with (default python3)
#   VENV    where it is (default .venv in the repository)
#
# What is there already and up to date is used as it is.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
VENV=${VENV:-$PWD/.venv}

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

command -v "$PYTHON" > /dev/null ||
  fail "there is no '$PYTHON'. Install Python 3.10 to 3.13, or set PYTHON to" \
    "the interpreter to use."
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' ||
  fail "$("$PYTHON" --version) found, Python 3.10 to 3.13 needed (TensorFlow" \
    "2.21 has no others). Set PYTHON to such an interpreter."

# What the environment was made from: it is up to date while this is the same.
STAMP=$VENV/lingvo_gpipe.stamp
stamp_now() {
  "$PYTHON" --version
  cksum setup.py lingvo_gpipe/version.py
}

if [[ "$(cat "$STAMP" 2> /dev/null)" != "$(stamp_now)" ]]; then
  "$PYTHON" -c 'import ensurepip, venv' 2> /dev/null ||
    fail "'$PYTHON' cannot make virtual environments. On Debian and Ubuntu:" \
      "apt-get install python3-venv"
  [[ ! -e "$VENV" || -e "$STAMP" ]] ||
    fail "$VENV is there, and was not made by this script. Move it away, or" \
      "set VENV to another path."
  echo "Installing lingvo_gpipe and what it needs into $VENV" \
    "(a few minutes, once)." >&2
  "$PYTHON" -m venv --clear "$VENV"
  echo 'incomplete' > "$STAMP"
  "$VENV/bin/python" -m pip install --quiet --editable '.[tests,tools]' >&2 ||
    fail "the installation failed; see pip's message above. Run this again to" \
      "try again."
  stamp_now > "$STAMP"
fi
source "$VENV/bin/activate"
