# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the partitioner is made of; `lingvo_gpipe.partitioner` is its door."""
