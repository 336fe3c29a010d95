# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What layers cost, and the cut that follows: `pipeline_plan` is the way in."""
