# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One training step whose memory is measured: model, pipeline and data."""

import dataclasses

from lingvo_gpipe import schedules

FAMILIES = ('amoebanet', 'transformer')

# Of the paper's models the classes; a vocabulary that leaves room for layers.
NUM_CLASSES = 1000
VOCAB_SIZE = 8192
HEAD_DIM = 16


@dataclasses.dataclass(frozen=True)
class TrainingCase:
  """A model, how it is run, and on what.

  Attributes:
    family: One of FAMILIES.
    length: L: normal cells of an AmoebaNet-D, layers of a Transformer.
    dim: D: channels of the first normal cells, the model dimension.
    example_size: Pixels to a side of an image, tokens of a row.
    batch: Examples in a mini-batch.
    num_workers: K: worker processes, with one cell each.
    num_micro_batches: M.
    recompute: A recompute policy.
    schedule: A schedule's name.
  """

  family: str
  length: int
  dim: int
  example_size: int
  batch: int
  num_workers: int = 1
  num_micro_batches: int = 1
  recompute: str = 'never'
  schedule: str = '1f1b'

  def __post_init__(self) -> None:
    if self.family not in FAMILIES:
      raise ValueError(
        f'There is no family {self.family!r}; it must be one of '
        f'{", ".join(FAMILIES)}.'
      )
    schedules.check_name(self.schedule)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, int) and value < 1:
        raise ValueError(f'{field.name} is {value}; it must be 1 or more.')
    if self.batch % self.num_micro_batches:
      raise ValueError(
        f'batch is {self.batch}, which num_micro_batches, '
        f'{self.num_micro_batches}, does not divide.'
      )

  @property
  def micro_batch_size(self) -> int:
    """Examples in a micro-batch."""
    return self.batch // self.num_micro_batches

  @property
  def model(self) -> str:
    """The model's name in reports."""
    if self.family == 'amoebanet':
      return f'AmoebaNet-D({self.length}, {self.dim})'
    return f'Transformer-{self.length}'
