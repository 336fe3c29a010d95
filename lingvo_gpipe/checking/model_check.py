# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a model's pipelines beside its plain layers, in several ways.

```
  plain layers  <-->  K = 1, M = 1
                <-->  K,     M = 1
                <-->  K = 1, M
                <-->  K,     M
```

Where cells have batch norm and only M > 1 differs, plain layers and pipeline
run once more with its statistics fixed: what differs then has another reason.
"""

import collections
from collections.abc import Callable
from typing import Any

from lingvo_gpipe import pipelining_layer, sequential_layer
from lingvo_gpipe.checking import comparison, one_batch
from lingvo_gpipe.checking.report import Report
from lingvo_gpipe.training import pipeline_params


def check(
  params: Any, num_devices: int, tolerance: float, say: Callable[[str], None]
) -> Report:
  """Checks a model; see `lingvo_gpipe.check.check_model`."""
  params = params.Copy()
  set_aside = _turn_dropout_off(params)
  say('plain layers')
  (plain, again), given = one_batch.run(
    params, num_devices, plain=True, steps=(0, 1)
  )

  def run(params: Any, devices: int) -> one_batch.Result:
    [result], _ = one_batch.run(params, devices, given, plain=False)
    say(f'K = {result.num_cells}, M = {result.num_micro_batches}')
    return result

  own = run(params, num_devices)
  results = [own]
  if own.num_micro_batches > 1:
    results.append(run(_with_one_micro_batch(params), num_devices))
  if own.num_cells > 1 and _can_be_one_cell(params):
    one_cell = _with_one_cell(params)
    results.append(run(one_cell, 1))
    if own.num_micro_batches > 1:
      results.append(run(_with_one_micro_batch(one_cell), 1))
  results.sort(key=lambda r: (r.num_micro_batches, r.num_cells))
  ways = [comparison.compare(plain, result) for result in results]
  fixed = None
  if own.batch_norms and all(
    way.largest <= tolerance for way in ways if way.num_micro_batches == 1
  ):
    fixed = _with_fixed_statistics(params, num_devices, given)
  return Report(
    ways=ways,
    fixed_statistics=fixed,
    batch_norms=own.batch_norms,
    set_aside=set_aside,
    changes_by_itself=comparison.compare(plain, again).largest,
    faults=[
      line
      for loss in plain.losses
      for line in comparison.explain(loss, tolerance)
    ],
    constant_weights=own.constant_weights,
    tolerance=tolerance,
  )


def _turn_dropout_off(params: Any) -> dict[str, int]:
  """Sets the Params that have a probability of dropping something."""
  changed: collections.Counter[str] = collections.Counter()
  for p in pipeline_params.walk(params):
    for name, value in list(p.IterParams()):
      if isinstance(value, bool) or not isinstance(value, (int, float)):
        continue
      if name.endswith('keep_prob'):
        off = 1.0
      elif 'dropout' in name:
        off = 0.0
      else:
        continue
      if value != off:
        p.Set(**{name: off})
        changed[name] += 1
  return dict(changed)


def _with_one_micro_batch(params: Any) -> Any:
  params = params.Copy()
  for p in pipeline_params.walk(params):
    for name, value in (('num_micro_batches', 1), ('micro_batch_size', None)):
      if name in p:
        p.Set(**{name: value})
  return params


def _can_be_one_cell(params: Any) -> bool:
  """Whether all pipelines cut their layers themselves."""
  layers = pipeline_params.find_layers(params, pipelining_layer.PipeliningLayer)
  return all(
    issubclass(p.cls, sequential_layer.GPipeSequentialLayer) for p in layers
  )


def _with_one_cell(params: Any) -> Any:
  params = params.Copy()
  for p in pipeline_params.find_layers(
    params, sequential_layer.GPipeSequentialLayer
  ):
    p.Set(num_partitions=1, splits=[], device_memory='')
  return params


def _with_fixed_statistics(
  params: Any, num_devices: int, given: one_batch.Given
) -> comparison.Way | None:
  """The comparison with the statistics of batch norm fixed, if they can be."""
  params = params.Copy()
  for p in pipeline_params.walk(params):
    if 'freeze_bn_stats' in p:
      p.freeze_bn_stats = True
  [plain], _ = one_batch.run(params, num_devices, given, plain=True)
  [result], _ = one_batch.run(params, num_devices, given, plain=False)
  if result.batch_norms:
    return None
  return comparison.compare(plain, result)
