#!/bin/bash
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Trains a pipelined model on real data, and does all the set-up that it needs.
# Arguments go to lingvo_gpipe.first_run; --help lists them.

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec python -m lingvo_gpipe.first_run "$@"
