# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The GPipe paper's tables, beside what this engine and its planner say."""
