# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the pipeline: speed and memory, beside Lingvo's own and theory."""
