# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The rules for Python that are built into Bazel 4."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
