# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps docs/ true: pages that are run, and a page that is generated."""
