#!/bin/bash
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds every target with Bazel, in the project's environment, and runs the
# tests that need no TensorFlow (`bazel test //...` runs all). Where there is no
# Bazel it is installed if apt-get can do so; where it cannot, nothing is done.

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"

skip() {
  echo "$(basename "$0"): Bazel is not checked: $*"
  exit 0
}

apt() {
  DEBIAN_FRONTEND=noninteractive timeout 150 apt-get -qq \
    -o Acquire::Retries=0 -o Acquire::http::Timeout=20 "$@" &> /dev/null
}

install() {
  ((EUID == 0)) && command -v apt-get > /dev/null || return
  apt install -y --no-install-recommends bazel-bootstrap ||
    { apt update && apt install -y --no-install-recommends bazel-bootstrap; }
}

has_bazel() {
  command -v bazel > /dev/null
}

has_bazel || { install && has_bazel; } ||
  skip "there is none, and apt-get cannot install bazel-bootstrap here."
# Debian's package calls itself no_version.
version=$(bazel --version 2> /dev/null) ||
  skip "'bazel --version' fails."
[[ "$version" =~ ^bazel\ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 7)) &&
  skip "$version found; what is tested is Bazel 4 (docs/bazel.md)."

export LINGVO_GPIPE_PYTHON=$VENV/bin/python
trap 'bazel shutdown 2> /dev/null' EXIT
bazel build --noshow_progress //...
files=$(find tests -name '*_test.py' | wc -l)
targets=$(bazel query --noshow_progress 'tests(//...)' | wc -l)
((files == targets)) ||
  fail "$files test files have $targets targets: a BUILD file below tests/" \
    "hides those beside it from the pattern in tests/BUILD."
# Bazel does not see what is installed in the environment, and would go by
# results from before it changed.
bazel test --noshow_progress --nocache_test_results \
  --test_tag_filters=-tensorflow //...
