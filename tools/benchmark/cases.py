# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The models that are measured, their sizes, and the ways to run them."""

import dataclasses
import itertools
from collections.abc import Sequence

from lingvo_gpipe import schedules

_TITLES = {
  'mlp': 'residual MLP',
  'bottleneck': 'bottlenecks',
  'amoebanet': 'AmoebaNet-D',
  'transformer': 'Transformer language model',
}
# What `example_size` is.
_EXAMPLES = {'amoebanet': 'pixels a side', 'transformer': 'tokens a row'}
# Of an attention head. D of a Transformer is a multiple of it.
HEAD_DIM = 16
# What each engine is, for reports.
ENGINES = {
  'ours': 'lingvo_gpipe.PipeliningLayer, with the loss in its last cell',
  'lingvo': 'lingvo.core.gpipe.PipeliningLayer, which recomputes always',
  'naive': 'naive model parallelism: ours with M = 1, nothing recomputed',
  'plain': 'no pipeline, on one device with one thread',
  'plain-all_cores': 'no pipeline, with a thread on every core for each op',
  'torch': "PyTorch's torch.distributed.pipelining, one process a cell, each "
  'pinned to a core',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A model, its mini-batch, and a way to run it.

  Attributes:
    name: For flags and reports.
    model: 'mlp', layers x + W2 relu(W1 x + b1) + b2, whose hidden width is
      4 D; 'bottleneck', L layers x + W2 relu(W1 x), the first
      without the sum; 'amoebanet', AmoebaNet-D(L, D); 'transformer', a language
      model of L layers of width D.
    num_layers: L.
    dim: D.
    batch: Examples in a mini-batch.
    num_cells: K, on CPU devices with one thread each.
    num_micro_batches: M.
    example_size: Pixels to a side of an image, tokens of a row. An AmoebaNet
      for images smaller than 32 has a stem that keeps their size.
    schedule: One of lingvo_gpipe.schedules.SCHEDULE_NAMES.
    recompute: A recompute policy; FIT where it is to be chosen what is kept.
    kept: Names of layers that are not recomputed, under 'always'.
    input_dim: Of bottlenecks: the width of the model's input.
    hidden_dim: Of bottlenecks: the width inside a layer.
    num_ids: Classes of an AmoebaNet, words of a Transformer.
    dropout: Of a Transformer.
    optimizer: 'sgd' without slots, or with two: 'rmsprop', 'adam'.
    engine: One of ENGINES.
  """

  name: str
  model: str
  num_layers: int
  dim: int
  batch: int
  num_cells: int = 2
  num_micro_batches: int = 8
  example_size: int = 1
  schedule: str = '1f1b'
  recompute: str = 'always'
  kept: tuple[str, ...] = ()
  input_dim: int = 1
  hidden_dim: int = 1
  num_ids: int = 10
  dropout: float = 0.0
  optimizer: str = 'sgd'
  engine: str = 'ours'

  def __post_init__(self) -> None:
    schedules.check_name(self.schedule)
    if self.recompute != schedules.FIT:
      schedules.check_recompute(self.recompute)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, int) and value < 1:
        raise ValueError(f'{field.name} is {value}; it must be 1 or more.')

  def check_micro_batches(self, number: int) -> None:
    """Raises ValueError if the mini-batch cannot be cut into so many."""
    if number < 1 or self.batch % number:
      raise ValueError(
        f'micro_batches has {number}, which does not divide the {self.batch} '
        f'examples of case {self.name!r}: engines would be given different '
        'work.'
      )

  @property
  def num_devices(self) -> int:
    """One for each cell, or for two if the schedule is made for that."""
    return self.num_cells // schedules.cells_per_device(self.schedule)

  @property
  def cell_devices(self) -> tuple[int, ...]:
    """The device of each cell."""
    return schedules.place(self.schedule, self.num_cells, self.num_devices)

  @property
  def has_pipeline(self) -> bool:
    """Whether it has several cells or micro-batches to be efficient with."""
    return not self.engine.startswith('plain')

  @property
  def micro_batch_size(self) -> int:
    """Examples in a micro-batch."""
    return self.batch // self.num_micro_batches

  @property
  def method(self) -> str:
    """The engine and how it is run: one of METHODS."""
    if self.engine in _FIXED:
      return self.engine
    return f'{self.engine}-{self.schedule}-{self.recompute}'

  @property
  def variant(self) -> str:
    """The method, with K and M."""
    return f'{self.method} K={self.num_cells} M={self.num_micro_batches}'

  @property
  def title(self) -> str:
    """The model's name in tables."""
    if self.model == 'amoebanet':
      return f'AmoebaNet-D({self.num_layers}, {self.dim})'
    return f'{self.model.capitalize()}-{self.num_layers}'

  def __str__(self) -> str:
    size = _EXAMPLES.get(self.model)
    text = f'{self.name}: {_TITLES[self.model]}, L={self.num_layers} '
    text += f'D={self.dim} batch={self.batch}'
    return f'{text}, {self.example_size} {size}' if size else text


# The first has few examples a micro-batch and large weights, so that adding up
# gradients takes much of the time; the others' micro-batches keep a core busy.
CASES = (
  Case('wide', 'mlp', 8, 512, 512),
  Case('long', 'mlp', 16, 256, 4096, num_micro_batches=16),
  Case('amoebanet', 'amoebanet', 3, 32, 256, example_size=16),
  Case(
    *('transformer', 'transformer', 6, 256, 64), example_size=64, num_ids=1024
  ),
)
# To see in a minute that everything runs.
TINY_CASES = (
  Case('tiny', 'mlp', 4, 16, 16, 2, 4),
  Case('tiny-amoebanet', 'amoebanet', 3, 4, 4, 2, 2, 8),
  Case('tiny-transformer', 'transformer', 2, 8, 4, 2, 2, 4, num_ids=1024),
)
BY_NAME = {case.name: case for case in (*CASES, *TINY_CASES)}

# Engines without a choice of schedule and policy.
_FIXED = {
  'lingvo': ('gpipe', 'always'),
  'naive': ('gpipe', 'never'),
  'plain': ('gpipe', 'never'),
  'plain-all_cores': ('gpipe', 'never'),
}
# Engine, schedule and policy by name. PyTorch recomputes always or never, here
# with a cell a device.
METHODS = {
  **{engine: (engine, *how) for engine, how in _FIXED.items()},
  **{
    '-'.join(how): how
    for how in (
      *itertools.product(
        ('ours',), schedules.SCHEDULE_NAMES, schedules.RECOMPUTE_POLICIES
      ),
      *itertools.product(
        ('torch',), schedules.PLAIN_NAMES, ('always', 'never')
      ),
    )
  },
}


def variants(
  case: Case,
  methods: Sequence[str],
  cells: Sequence[int] = (),
  micro_batches: Sequence[int] = (),
) -> list[Case]:
  """The case by each method for each K and M, without repetitions.

  Its own K and M stand in where none are given. Without a pipeline both are 1,
  naive model parallelism has M = 1. PyTorch is left out where it has no such
  model.

  Raises:
    ValueError: K is less than 1, or an M does not divide the mini-batch.
  """
  cells = cells or [case.num_cells]
  micro_batches = micro_batches or [case.num_micro_batches]
  for number in micro_batches:
    case.check_micro_batches(number)
  found: dict[Case, None] = {}
  for name, k, m in itertools.product(methods, cells, micro_batches):
    engine, schedule, recompute = METHODS[name]
    if engine == 'torch' and case.model != 'mlp':
      continue
    one = dataclasses.replace(
      case,
      engine=engine,
      schedule=schedule,
      recompute=recompute,
      num_cells=1 if engine.startswith('plain') else k,
      num_micro_batches=m if engine in ('ours', 'lingvo', 'torch') else 1,
    )
    found[one] = None
  return list(found)
