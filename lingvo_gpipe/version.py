# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The package's version; setup.py reads it from here without importing it."""

__version__ = '0.1.0'
