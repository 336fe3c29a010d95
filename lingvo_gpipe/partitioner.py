# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds the best cut of a sequence of layers into cells."""

from lingvo_gpipe.cutting.partitioner import *  # noqa: F403
