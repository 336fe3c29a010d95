# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""recompute='fit': cuts, and chooses the layers whose activations are kept.

A layer that is kept saves its forward pass in each backward pass, and costs its
activations for each micro-batch in flight. (1) Which of a cell's layers to keep
is a knapsack problem; see `kept_layers`.

A device that can keep more is a faster device, and should have more layers. So
(2) the cut is sought together with the choice: by bisection the least time T
for which there are cells of T or less. For one T, cell after cell, it is found
where cells can end:

```
  0 ....... [ ends of k cells ] ....... [ ends of k + 1 cells ] ....... N
                             a |-------- cell k, at most T -------->| b
```

A longer cell from the same start never takes less time. And of two starts with
the same input, the later one reaches at least as far.

Where devices have several cells the cut is sought first, for what was kept
last: nothing at first; and so on until nothing changes.

Of what is found so and the cuts by policies for all layers, the one with the
shortest step is taken.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from lingvo_gpipe.cutting import cut_search, step_time
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import PipelineSpec, cell_memory
from lingvo_gpipe.cutting.fit_cells import Cells, best_positions
from lingvo_gpipe.cutting.memory_model import device_bytes

# How often devices with several cells are cut anew.
_MOST_ROUNDS = 4


@dataclasses.dataclass(frozen=True)
class Fit:
  """A cut, and what is kept.

  Attributes:
    splits: The first layer of each cell but the first; None if no cut fits.
    kept: Names of the layers that are kept.
    recompute: The policy for the others.
    is_proven: Whether it is known that no other cut and choice has a largest
      cell that takes less time; or, without splits, that nothing fits.
  """

  splits: tuple[int, ...] | None
  kept: frozenset[str] = frozenset()
  recompute: str = 'always'
  is_proven: bool = False


def fit(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None = None,
) -> Fit:
  """Chooses a cut, and what is kept, for a short step.

  Args:
    layers: The layers.
    spec: What they are cut for; it has a memory limit.
    splits: The first layer of each cell but the first, if the cut is given.

  Raises:
    ValueError: Two layers have the same name.
  """
  assert spec.device_memory is not None
  names = [layer.name for layer in layers]
  if len(set(names)) < len(names):
    repeated = sorted({name for name in names if names.count(name) > 1})
    raise ValueError(
      f'Several layers are named {repeated}. What is kept goes by name: give '
      'each a name of its own.'
    )
  cells = Cells(layers, spec)
  if splits is not None:
    kept = cells.kept((0, *splits, len(layers)))
    choices = [Fit(tuple(splits), kept)]
  elif spec.cells_per_device > 1:
    choices = _on_shared_devices(layers, spec, cells)
  else:
    choices = [_on_own_devices(spec, cells)]
  # Neither stands for a choice of layers: 'except_last' keeps all of one
  # micro-batch, and 'never' does not run layers again that nothing trains.
  others = [
    other
    for policy in ('except_last', 'never')
    if (other := _by_policy(layers, spec, splits, policy)) is not None
  ]
  return _quickest(layers, spec, [*choices, *others])


def apply(spec: PipelineSpec, choice: Fit) -> PipelineSpec:
  """The spec, with the choice in place of FIT."""
  return dataclasses.replace(spec, recompute=choice.recompute, kept=choice.kept)


def _on_own_devices(spec: PipelineSpec, cells: Cells) -> Fit:
  """The best cut for devices with a cell each."""
  positions, is_proven = best_positions(cells), not spec.skips
  if positions is None:
    return Fit(None, is_proven=is_proven)
  kept = cells.kept(positions)
  is_proven = is_proven and not cells.is_thinned
  return Fit(positions[1:-1], kept, is_proven=is_proven)


def _on_shared_devices(
  layers: Sequence[LayerCost], spec: PipelineSpec, cells: Cells
) -> list[Fit]:
  """Cuts for devices with several cells; see above."""
  choices: list[Fit] = []
  own = dataclasses.replace(spec, recompute='always')
  for _ in range(_MOST_ROUNDS):
    positions = cut_search.spec_cut(layers, own).positions
    if positions is None:
      break
    choice = Fit(tuple(positions[1:-1]), cells.kept(positions))
    if choice in choices:
      break
    choices.append(choice)
    own = dataclasses.replace(own, kept=choice.kept)
  return choices or [Fit(None)]


def _quickest(
  layers: Sequence[LayerCost], spec: PipelineSpec, choices: Sequence[Fit]
) -> Fit:
  """The choice whose step takes least, the first of equal ones."""
  best, least = choices[0], math.inf
  for choice in choices:
    if choice.splits is None:
      continue
    ends = [0, *choice.splits, len(layers)]
    cells = [layers[a:b] for a, b in itertools.pairwise(ends)]
    own = apply(spec, choice)
    # No step is shorter than what its busiest device takes.
    if step_time.busiest(cells, own) >= least:
      continue
    time = step_time.step_time(cells, own)
    if time < least:
      best, least = choice, time
  return best


def _by_policy(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  splits: Sequence[int] | None,
  policy: str,
) -> Fit | None:
  """The best cut under a recompute policy; None if none fits."""
  spec = dataclasses.replace(spec, recompute=policy)
  assert spec.device_memory is not None
  if splits is None:
    positions = cut_search.spec_cut(layers, spec).positions
    if positions is None:
      return None
    splits = positions[1:-1]
  else:
    cells = cell_memory(layers, spec).of_cells((0, *splits, len(layers)))
    needs = device_bytes(cells, spec.cell_devices)
    if max(needs) > spec.device_memory:
      return None
  return Fit(tuple(splits), recompute=policy)
