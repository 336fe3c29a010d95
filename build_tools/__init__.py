# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What builds and tests the project with Bazel; docs/bazel.md says how."""
