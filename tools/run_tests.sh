#!/bin/bash
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests, and does all the set-up that they need. Arguments go to
# pytest.

source "$(dirname "${BASH_SOURCE[0]}")/setup_env.sh"
exec python -m pytest "$@"
