# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs for those who measure or change this package."""

import os

import lingvo_gpipe  # noqa: F401  (before Lingvo: it may replace its ops)

# TensorFlow's own lines would be more than a program's.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
