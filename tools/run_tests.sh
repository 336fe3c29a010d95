#!/bin/bash
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests on two cores, and does all the set-up that they need. Arguments
# go to pytest; -n0 runs all in one process.

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
# The tests of one file stay together: they share what is slow to make.
exec python -m pytest -n 2 --dist loadfile "$@"
