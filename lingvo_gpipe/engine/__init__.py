# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Emits a schedule into a TensorFlow graph; knows nothing of Lingvo."""
