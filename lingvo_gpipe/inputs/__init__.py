# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Input generators of the data sets that ship with lingvo_gpipe."""
