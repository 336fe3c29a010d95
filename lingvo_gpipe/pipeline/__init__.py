# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What joins Lingvo's layers to the engine: one concept a module."""
