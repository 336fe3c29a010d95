# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's torch.distributed.pipelining on the benchmark's MLP.

A program for an interpreter that has torch, ours or another, so it imports
nothing of this package. Rank k, a process of its own with one thread, has stage
k; ranks talk by gloo. Rank 0 starts the others, and takes commands as lines of
JSON on its standard input, {"do": method, "args": ...} as `StepWorker` has
them: each is passed on to all ranks, and its reply follows when all have
replied.

The argument is JSON: layers, dim, batch, micro_batches, schedule, recompute,
splits; `rank` and `store` are added for ranks above 0.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

_DEVIATION = 0.02
_LEARNING_RATE = 0.01
_SEED = 1
_STOP_SECONDS = 10


def _import_torch():
  """Imports torch, or ends with what to do."""
  try:
    import torch
    import torch.distributed.pipelining
  except ImportError as error:
    sys.exit(
      f'{sys.executable} has no torch with torch.distributed.pipelining '
      f'({error}). pip install torch into an environment of its own, and give '
      'its interpreter by --torch_python.'
    )
  return torch


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
  rank = config.get('rank', 0)
  return Stage(ends[rank + 1] - ends[rank])


class _Rank:
  """Carries out commands on one rank."""

  def __init__(self, torch, config):
    self._torch = torch
    self._config = config
    self._rank = config.get('rank', 0)
    self._size = len(config['splits']) + 1
    self._schedule = None
    self._loss = None

  def carry_out(self, command):
    return getattr(self, command['do'])(*command.get('args', ()))

  def build(self):
    started = time.perf_counter()
    self._make()
    built = time.perf_counter()
    self._step()
    return {
      'graph_seconds': built - started,
      'first_step_seconds': time.perf_counter() - built,
      'losses': [self._loss],
      'ops': 0,
    }

  def steps(self, count):
    seconds, cpu_seconds, losses = [], [], []
    for _ in range(count):
      started, cpu_started = time.perf_counter(), time.process_time()
      self._step()
      losses.append(self._loss)
      seconds.append(time.perf_counter() - started)
      cpu_seconds.append(time.process_time() - cpu_started)
    return {'seconds': seconds, 'cpu_seconds': cpu_seconds, 'losses': losses}

  def _make(self):
    torch, config = self._torch, self._config
    from torch.distributed import pipelining

    torch.manual_seed(_SEED + self._rank)
    torch.distributed.init_process_group(
      'gloo',
      init_method=f'file://{config["store"]}',
      rank=self._rank,
      world_size=self._size,
    )
    self._data = torch.randn(config['batch'], config['dim'])
    self._module = _stage_module(torch, config)
    stage = pipelining.PipelineStage(
      self._module, self._rank, self._size, torch.device('cpu')
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

  def _step(self):
    """A step of gradient descent; all ranks have done it when it returns."""
    torch = self._torch
    arguments = [self._data] if self._rank == 0 else []
    if self._rank == self._size - 1:
      losses = []
      self._schedule.step(*arguments, target=self._data, losses=losses)
      self._loss = float(torch.stack(losses).detach().mean())
    else:
      self._schedule.step(*arguments)
    with torch.no_grad():
      for parameter in self._module.parameters():
        parameter -= _LEARNING_RATE * parameter.grad
        parameter.grad = None
    torch.distributed.barrier()


def _add_up(replies):
  """The reply of rank 0, with what the other ranks know better."""
  found = replies[0]
  found['losses'] = replies[-1]['losses']
  if 'cpu_seconds' in found:
    found['cpu_seconds'] = [
      sum(parts)
      for parts in zip(*(r['cpu_seconds'] for r in replies), strict=True)
    ]
  return found


def _serve(config, replies):
  """Starts the other ranks and carries out commands on all."""
  torch = _import_torch()
  torch.set_num_threads(1)
  directory = tempfile.TemporaryDirectory()
  config['store'] = os.path.join(directory.name, 'store')
  others = [
    subprocess.Popen(
      [sys.executable, __file__, json.dumps({**config, 'rank': rank})],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    for rank in range(1, len(config['splits']) + 1)
  ]
  own = _Rank(torch, config)

  def reply(value):
    replies.write(json.dumps(value) + '\n')
    replies.flush()

  try:
    for other in others:
      other.stdout.readline()
    pids = [os.getpid(), *(other.pid for other in others)]
    reply({'reply': {'pids': pids, 'torch': torch.__version__}})
    for line in sys.stdin:
      for other in others:
        other.stdin.write(line)
        other.stdin.flush()
      found = [own.carry_out(json.loads(line))]
      found += [json.loads(other.stdout.readline()) for other in others]
      reply({'reply': _add_up(found)})
  finally:
    for other in others:
      with contextlib.suppress(BrokenPipeError):
        other.stdin.close()
      try:
        other.wait(_STOP_SECONDS)
      except subprocess.TimeoutExpired:
        other.kill()
        other.wait()
    directory.cleanup()


def _follow(config, replies):
  """Carries out the commands that rank 0 passes on."""
  torch = _import_torch()
  torch.set_num_threads(1)
  own = _Rank(torch, config)
  replies.write('ready\n')
  replies.flush()
  for line in sys.stdin:
    replies.write(json.dumps(own.carry_out(json.loads(line))) + '\n')
    replies.flush()


if __name__ == '__main__':
  given = json.loads(sys.argv[1])
  channel = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)
  (_follow if 'rank' in given else _serve)(given, channel)
  # Process groups are not taken down: ranks end together.
  channel.flush()
  os._exit(0)
