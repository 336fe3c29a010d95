# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer costs, as plain numbers, however they were found."""

from lingvo_gpipe.cutting.cost_model import LayerCost

__all__ = ['LayerCost']
