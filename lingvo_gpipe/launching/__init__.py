# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes of a cluster on one machine: started, followed and ended."""
