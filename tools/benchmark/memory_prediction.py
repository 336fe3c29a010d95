# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much memory a cell's process should need, from the simulated schedule.

For K bottlenecks, a cell each, under recomputation. At its worst moment, in the
backward task of a micro-batch while the next input has come, the process of
cell k holds

```
  weights, the sums of their gradients so far, and this micro-batch's gradients,
    to which these are added in place
+ inputs at hand, of each the boundary's bytes
+ this micro-batch's activations: inner ones and their gradients, the gradient
    of the output, the gradient of the input
+ what it has sent and the neighbour has not received yet: one output (unless it
    is the last cell), one input gradient (unless it is the first)
```

Inputs at hand: the stash, and what has come for tasks that have not started. A
cell sends as soon as it has something, and cell k - 1 stashes a micro-batch
from before it sends it until after cell k is through with it. So cell k never
has more inputs at hand than the larger of both stashes: M under fill-drain,
K - k + 1 under 1F1B, one more than it stashes. The first cell has the whole
mini-batch's input from the start.
"""

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from tools.benchmark.cases import Case

_FLOAT_BYTES = 4


def predict(case: Case) -> list[dict[str, int]]:
  """What each cell's process needs at its peak; of bottlenecks.

  Returns:
    By ascending cell: the most micro-batches that it stashes, by the simulator,
    and the most whose input it has; then in bytes: 'state', weights and their
    gradients, as `memory_model` has them; 'inputs' at hand; 'activations' of
    one micro-batch, with their gradients; what is 'in_transit', sent and still
    kept; and the 'total'.
  """
  last = case.num_cells - 1
  schedule = schedules.make_schedule(
    case.schedule, range(case.num_cells), case.num_micro_batches
  )
  stash = schedules.simulate(schedule).peak_stash
  boundary = case.micro_batch_size * case.dim * _FLOAT_BYTES
  inner = case.micro_batch_size * case.hidden_dim * _FLOAT_BYTES
  predictions = []
  for k in range(case.num_cells):
    at_hand = max(stash[k], stash[k - 1]) if k else case.num_micro_batches
    parts = {
      'state': _state_bytes(case, k),
      'inputs': at_hand * boundary
      if k
      else case.batch * case.input_dim * _FLOAT_BYTES,
      'activations': (1 + int(k > 0)) * boundary + 2 * inner,
      'in_transit': (int(k > 0) + int(k < last)) * boundary,
    }
    predictions.append(
      {
        'peak_stash': stash[k],
        'at_hand': at_hand,
        **parts,
        'total': sum(parts.values()),
      }
    )
  return predictions


def _state_bytes(case: Case, k: int) -> int:
  """A cell's weights and gradients while a backward runs; no slots."""
  width = case.dim if k else case.input_dim
  weights = (width + case.dim) * case.hidden_dim * _FLOAT_BYTES
  need = memory_model.CellMemory(
    [LayerCost(f'cell {k}', weight_bytes=weights)],
    [1],
    'always',
    num_micro_batches=case.num_micro_batches,
  ).of_cell(0, 0, 1)
  return need.state + need.new_gradients
