# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures the pipeline: speed and memory, next to Lingvo's and theory's."""
