# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a PipeliningLayer: its size, and how it is cut."""

from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import clock, micro_batches, placement
from lingvo_gpipe.pipeline import seeds


class MiniBatch:
  """Cuts the tensors of a mini-batch into micro-batches.

  Attributes:
    clock: Where in the training it is.
    batch_dim: The dimension that counts the examples.
  """

  def __init__(
    self, params: Any, path: str, nest: Any, device: str, *, training: bool
  ):
    """Decides how to cut.

    Args:
      params: The PipeliningLayer's Params.
      path: Its path, for messages.
      nest: All tensors that are to be cut; they must have the same number of
        examples.
      device: Where to compute sizes, if they are known at run time only.
      training: Whether a micro-batch may not be empty.
    """
    self._path = path
    self._device = device
    self.batch_dim = params.batch_dim
    self._sizes, batch = self._choose_sizes(params, nest)
    self.clock = self._make_clock(batch, training)

  @property
  def count(self) -> int:
    """M."""
    return self._sizes.count

  @property
  def sizes(self) -> tuple[int | None, ...]:
    """The examples of each micro-batch, None where the graph does not know."""
    return self._sizes.sizes

  def _choose_sizes(
    self, p: Any, nest: Any
  ) -> tuple[micro_batches.MicroBatchSizes, tf.Tensor]:
    """The micro-batches' sizes, and the mini-batch's, an int64 scalar."""
    known, tensor = micro_batches.batch_size(nest, p.batch_dim)
    by_size = p.micro_batch_size is not None and p.num_micro_batches == 1
    count = None if by_size else p.num_micro_batches
    try:
      sizes = micro_batches.choose_sizes(known, count, p.micro_batch_size)
    except ValueError as error:
      raise ValueError(f'{self._path}: {error}') from error
    if count is not None and sizes.count < count:
      tf.logging.warning(
        '%s: num_micro_batches is %d, but the mini-batch has %d examples; it '
        'is cut into %d micro-batches of one example each.',
        self._path,
        count,
        known,
        sizes.count,
      )
    with placement.on_device(self._device):
      if known is not None:
        return sizes, tf.constant(known, tf.int64)
      return sizes, tf.shape(tensor, out_type=tf.int64)[p.batch_dim]

  def _make_clock(self, batch: tf.Tensor, training: bool) -> clock.Clock:
    step = py_utils.GetGlobalStep()
    if step is None:
      step = py_utils.GetOrCreateGlobalStepVar()
    with placement.on_device(self._device):
      sizes = self._sizes.sizes
      self._run_time_sizes = None
      if not self._sizes.known:
        self._run_time_sizes = micro_batches.sizes_at_run_time(
          self.count, batch, may_be_empty=not training
        )
        sizes = tf.unstack(self._run_time_sizes, num=self.count)
      return clock.Clock(
        step=tf.cast(tf.convert_to_tensor(step), tf.int64),
        seed=seeds.next_seed(),
        sizes=sizes,
        batch=batch,
      )

  def split(self, nest: Any, device: str) -> list[Any]:
    """Cuts a nest, on a device, into M."""
    with placement.on_device(device):
      return micro_batches.split(
        nest, self.batch_dim, self._sizes, self._run_time_sizes
      )

  def merge(self, nests: list[Any], device: str) -> Any:
    """Joins what a cell returned for each micro-batch, on its device."""
    with placement.on_device(device):
      try:
        return micro_batches.merge(nests, self.batch_dim)
      except ValueError as error:
        raise ValueError(f'{self._path}: {error}') from error

  def shares(self) -> list[tf.Tensor]:
    """Each micro-batch's share of the examples, float32."""
    with placement.on_device(self._device):
      return [self.clock.share(m) for m in range(self.count)]
