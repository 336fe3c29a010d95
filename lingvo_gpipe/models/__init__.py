# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers and tasks of the models that ship with lingvo_gpipe."""
