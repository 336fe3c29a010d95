# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A file that keeps what the layers of models cost, from run to run."""

import dataclasses
import json
import pathlib
from typing import Any

from lingvo_gpipe.cutting.cost_model import LayerCost
from tools.paper.model_costs import ModelCosts


class CostsFile:
  """Costs by model and precision, as JSON.

  Nothing in it says what the models were like: it is to be deleted when they
  change.
  """

  def __init__(self, path: str):
    """Reads the file, if there is one.

    Args:
      path: The file.

    Raises:
      ValueError: There is a file, but not one of costs.
    """
    self._path = pathlib.Path(path)
    self._known: dict[str, ModelCosts] = {}
    if not self._path.exists():
      return
    try:
      stored = json.loads(self._path.read_text(encoding='utf-8'))
      self._known = {key: _parsed(value) for key, value in stored.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f'{path} is not a file of costs ({error}); delete it, or name another.'
      ) from error

  def get(self, model: str, precision: str) -> ModelCosts | None:
    """The costs of a model, if they are known."""
    return self._known.get(_key(model, precision))

  def add(self, model: str, precision: str, costs: ModelCosts) -> None:
    """Adds the costs of a model, and writes the file."""
    self._known[_key(model, precision)] = costs
    values = {
      key: dataclasses.asdict(value) for key, value in self._known.items()
    }
    # A program that is stopped leaves the old file or the new one.
    new = self._path.with_name(f'{self._path.name}.new')
    new.write_text(json.dumps(values), encoding='utf-8')
    new.replace(self._path)


def _key(model: str, precision: str) -> str:
  return f'{model} {precision}'.strip()


def _parsed(value: dict[str, Any]) -> ModelCosts:
  layers = tuple(LayerCost(**layer) for layer in value['layers'])
  return ModelCosts(layers, int(value['examples']), int(value['input_bytes']))
