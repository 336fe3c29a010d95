# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Language models whose weights outweigh everything else in a process."""

from typing import Any

from lingvo import model_registry

from model_params.lm import pydoc


class _Transformer(pydoc.TransformerBytes):
  """Short rows: steps of seconds although there are many weights."""

  ROW_LENGTH = 64
  LAYERS = 1
  DIM = 32

  def Network(self) -> Any:
    """Params of the network."""
    p = super().Network()
    p.Set(num_layers=self.LAYERS, model_dim=self.DIM, hidden_dim=4 * self.DIM)
    return p.Set(num_heads=max(1, self.DIM // 64))

  def Task(self) -> Any:
    """Params of the task."""
    p = super().Task()
    # Every run begins with the same weights.
    p.random_seed = 20181116
    return p


@model_registry.RegisterSingleTaskModel
class Wide(_Transformer):
  """25 million weights."""

  LAYERS = 8
  DIM = 512


@model_registry.RegisterSingleTaskModel
class Tiny(_Transformer):
  """To see whether all runs."""

  LAYERS = 4
