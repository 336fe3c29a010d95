# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where a list of layers is cut into cells: `partitioner` is the way in."""
