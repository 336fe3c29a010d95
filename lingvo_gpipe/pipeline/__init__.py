# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What joins Lingvo's layers to the engine: one concept a module.

`plan` and `run` lead a mini-batch through; `lingvo_cell` makes a cell of
layers; the others each carry one thing that a layer's FProp does besides
mapping inputs to outputs.
"""
