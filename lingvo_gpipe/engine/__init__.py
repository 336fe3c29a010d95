# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The engine: emits a schedule into a TensorFlow graph.

It knows TensorFlow and nothing of Lingvo's layers.
"""
