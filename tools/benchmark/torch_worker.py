# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A rank of PyTorch's torch.distributed.pipelining, on the benchmark's MLP.

A program for an interpreter that has torch, ours or another, so it imports
nothing but the file beside it. It has one thread and one stage; ranks talk by
gloo. The argument is JSON: rank, store, layers, dim, batch, micro_batches,
schedule, recompute, splits. It writes torch's version; then each line of its
input is a call of a `StepWorker`, ["method", arguments ...], and each line that
it writes is the reply, in JSON too.
"""

import json
import os
import sys

from step_worker import StepWorker

_DEVIATION = 0.02
_LEARNING_RATE = 0.01
_SEED = 1


def _stage_module(torch, config):
  """The layers of this rank, with recomputation if wanted."""

  class Residual(torch.nn.Module):
    def __init__(self, dim):
      super().__init__()
      self.up = torch.nn.Linear(dim, 4 * dim)
      self.down = torch.nn.Linear(4 * dim, dim)
      for parameter in self.parameters():
        torch.nn.init.normal_(parameter, std=_DEVIATION)

    def forward(self, x):
      return x + self.down(torch.relu(self.up(x)))

  class Stage(torch.nn.Module):
    def __init__(self, count):
      super().__init__()
      self.layers = torch.nn.Sequential(
        *(Residual(config['dim']) for _ in range(count))
      )

    def forward(self, x):
      if config['recompute'] == 'never':
        return self.layers(x)
      return torch.utils.checkpoint.checkpoint(
        self.layers, x, use_reentrant=False
      )

  ends = [0, *config['splits'], config['layers']]
  rank = config['rank']
  return Stage(ends[rank + 1] - ends[rank])


class _Step:
  """A step of gradient descent; all ranks have done it when it returns."""

  def __init__(self, torch, config):
    from torch.distributed import pipelining

    self._torch = torch
    rank, size = config['rank'], len(config['splits']) + 1
    torch.manual_seed(_SEED + rank)
    torch.distributed.init_process_group(
      'gloo',
      init_method=f'file://{config["store"]}',
      rank=rank,
      world_size=size,
    )
    data = torch.randn(config['batch'], config['dim'])
    self._module = _stage_module(torch, config)
    stage = pipelining.PipelineStage(
      self._module, rank, size, torch.device('cpu')
    )
    kind = {
      'gpipe': pipelining.ScheduleGPipe,
      '1f1b': pipelining.Schedule1F1B,
    }[config['schedule']]
    self._schedule = kind(
      stage,
      config['micro_batches'],
      loss_fn=lambda outputs, targets: outputs.square().mean(),
    )
    self._arguments = [data] if rank == 0 else []
    self._is_last = rank == size - 1
    self._targets = {'target': data} if self._is_last else {}

  def run(self):
    """Returns the loss on the last rank, 0 on others."""
    torch = self._torch
    losses = []
    targets = {**self._targets, 'losses': losses} if self._is_last else {}
    self._schedule.step(*self._arguments, **targets)
    with torch.no_grad():
      for parameter in self._module.parameters():
        parameter -= _LEARNING_RATE * parameter.grad
        parameter.grad = None
    torch.distributed.barrier()
    return float(torch.stack(losses).detach().mean()) if losses else 0.0


def _serve(config, replies):
  import torch
  import torch.distributed.pipelining

  torch.set_num_threads(1)
  worker = StepWorker(lambda: _Step(torch, config))

  def reply(value):
    replies.write(json.dumps(value) + '\n')
    replies.flush()

  reply(torch.__version__)
  for line in sys.stdin:
    method, *arguments = json.loads(line)
    reply(getattr(worker, method)(*arguments))


if __name__ == '__main__':
  channel = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)
  _serve(json.loads(sys.argv[1]), channel)
  # Process groups are not taken down: ranks end together.
  os._exit(0)
