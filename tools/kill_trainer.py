# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Kills the trainer at random moments and compares the results.

A first training is left alone. Then trainings are killed with SIGKILL at random
moments and started again, until there have been enough kills: one in four while
the graph is built or the checkpoint restored, the others once a step has been
made. Steps are short, so many of these fall into the writing of a checkpoint.
What must hold:

- A run continues from the checkpoint that counted when the one before died.
- The loss of every step is bit-identical to that of the first training.
- The weights at the end are bit-identical as well.

Prints a line for each run, and exits with status 1 if something does not hold.
TensorFlow is imported once; each run is a fork made before TensorFlow starts a
thread.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NoReturn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.common import command

# A step and its exact loss.
_Losses = list[tuple[int, str]]


def _train(
  args: argparse.Namespace, logdir: pathlib.Path, record: pathlib.Path
) -> NoReturn:
  """Runs the trainer; never returns.

  After each step 'step loss' is added to the file `record`; the loss is exact.
  """
  from lingvo_gpipe import trainer
  from lingvo_gpipe.tracing import step_tracer
  from lingvo_gpipe.training import listeners

  file = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

  class Recorder(listeners.StepListener):
    def after_step(self, step: int, metrics: Any) -> None:
      loss = float(metrics['loss'][0])
      os.write(file, f'{step} {loss.hex()}\n'.encode())

  tracing: Any = step_tracer
  tracing.listeners = lambda: [Recorder()]
  os.dup2(os.open(f'{record}.out', os.O_WRONLY | os.O_CREAT, 0o644), 1)
  status = trainer.main(
    [
      'trainer',
      f'--model={args.model}',
      f'--logdir={logdir}',
      f'--max_steps={args.steps}',
      '--run_locally=cpu',
      f'--worker_split_size={args.devices}',
      *args.flags,
    ]
  )
  os._exit(status)


def _run(
  args: argparse.Namespace,
  logdir: pathlib.Path,
  record: pathlib.Path,
  kill_after: float | None = None,
  training: bool = False,
) -> tuple[int, float, float]:
  """Trains in a process of its own; kills it after `kill_after` seconds.

  These count from the first step on if `training`; None is never.

  Returns:
    Its exit status, negative if killed, the seconds before its first step, and
    those since.
  """
  started = time.monotonic()
  first_step = None
  pid = os.fork()
  if not pid:
    _train(args, logdir, record)
  while True:
    done, status = os.waitpid(pid, os.WNOHANG)
    now = time.monotonic()
    if first_step is None and record.exists() and record.stat().st_size:
      first_step = now
    seconds = now - started
    if done:
      since = now - (first_step or now)
      return os.waitstatus_to_exitcode(status), seconds - since, since
    counts_from = first_step if training else started
    if (
      kill_after is not None
      and counts_from is not None
      and now - counts_from >= kill_after
    ):
      os.kill(pid, signal.SIGKILL)
      kill_after = None
    if seconds > args.timeout:
      os.kill(pid, signal.SIGKILL)
      sys.exit(f'a run hangs; its log: {logdir}/log.txt')
    time.sleep(0.001)


def _recorded(record: pathlib.Path) -> _Losses:
  if not record.exists():
    return []
  pairs = [line.split() for line in record.read_text().splitlines()]
  return [(int(step), loss) for step, loss in pairs]


def _checkpoint_step(logdir: pathlib.Path) -> int:
  """The step of the checkpoint that counts; 0 if there is none."""
  state = logdir / 'train' / 'checkpoint'
  if not state.exists():
    return 0
  [step] = re.findall(r'^model_.*-(\d+)"', state.read_text())
  return int(step)


def _unfinished(logdir: pathlib.Path) -> str:
  """Says if a checkpoint was being written when the process died."""
  begun = {
    int(step)
    for path in (logdir / 'train').glob('ckpt-*')
    for step in re.findall(r'^ckpt-(\d+)', path.name)
  }
  if max(begun, default=0) > _checkpoint_step(logdir):
    return f' in the checkpoint of step {max(begun)}'
  return ''


def _weights(logdir: pathlib.Path) -> dict[str, bytes]:
  """All variables of the newest checkpoint, as bytes."""
  import tensorflow as tf

  reader = tf.train.load_checkpoint(str(logdir / 'train'))
  return {
    name: reader.get_tensor(name).tobytes()
    for name in reader.get_variable_to_shape_map()
  }


class _Trainings:
  """One training after the other, each killed and continued till it ends."""

  def __init__(self, args: argparse.Namespace, directory: pathlib.Path):
    self._args = args
    self._directory = directory
    self._random = random.Random(args.seed)
    self._number = 0
    self.errors: list[str] = []

  def reference(self) -> None:
    """Trains without a kill."""
    logdir = self._directory / 'reference'
    record = logdir.with_suffix('.txt')
    status, *self._seconds = _run(self._args, logdir, record)
    if status:
      sys.exit(f'the trainer failed: {logdir}/log.txt')
    self._losses = dict(_recorded(record))
    if list(self._losses) != list(range(1, self._args.steps + 1)):
      sys.exit(f'not all steps were recorded, but {sorted(self._losses)}')
    self._weights_at = logdir
    print(
      f'never killed: {len(self._losses)} steps, the first done after '
      f'{self._seconds[0]:.2f} s, the others in {self._seconds[1]:.2f} s'
    )

  def killed(self, moments: int) -> int:
    """Trains, with up to `moments` kills; returns how many there were."""
    self._number += 1
    logdir = self._directory / f'training_{self._number}'
    kills = life = 0
    # A kill may come between a step's checkpoint and the record of its loss.
    steps: set[int] = set()
    may_lack: set[int] = set()
    while True:
      life += 1
      record = self._directory / f'training_{self._number}_{life}.txt'
      begin = _checkpoint_step(logdir)
      may_lack.add(begin)
      training = self._random.random() < 0.75
      moment = None
      if kills < moments:
        seconds = self._seconds[training]
        if training:
          seconds *= 0.9 * (1 - begin / self._args.steps)
        moment = self._random.uniform(0, seconds)
      status, before, since = _run(self._args, logdir, record, moment, training)
      kills += status < 0
      losses = _recorded(record)
      steps |= {step for step, _ in losses}
      print(
        f'training {self._number}, run {life}: from step {begin}, '
        f'{len(losses)} steps in {before:.2f} + {since:.2f} s, '
        + ('ended' if status >= 0 else 'killed')
        # What an earlier run left is no sign of where this one was.
        + (_unfinished(logdir) if status < 0 and losses else ''),
        flush=True,
      )
      self._check(logdir, begin, losses, status)
      if status >= 0:
        break
    lacking = set(self._losses) - steps - may_lack
    if lacking:
      self.errors.append(f'{logdir}: no loss of steps {sorted(lacking)}')
    if _weights(logdir) != _weights(self._weights_at):
      self.errors.append(f'{logdir}: other weights at the end')
    return kills

  def _check(
    self,
    logdir: pathlib.Path,
    begin: int,
    losses: Sequence[tuple[int, str]],
    status: int,
  ) -> None:
    if status not in (0, -signal.SIGKILL):
      self.errors.append(f'{logdir}: exit status {status}')
    if losses and losses[0][0] != begin + 1:
      self.errors.append(f'{logdir}: began at {losses[0][0]}, not {begin + 1}')
    self.errors += [
      f'{logdir}: loss of step {step} is {loss}, not {self._losses[step]}'
      for step, loss in losses
      if loss != self._losses[step]
    ]


def main() -> None:
  example = '  tools/kill_trainer.py --moments 5 -- --schedule=1f1b\n'
  parser = command.Parser('tools/kill_trainer.py', __doc__, example)
  flag = parser.flag
  flag('model', 'image.digits.AmoebaNetD', 'A registered model.')
  flag('moments', 20, 'Kills.')
  flag('steps', 60, 'Steps of each training.')
  flag('devices', 2, 'CPU devices of the pipeline.')
  flag('seed', 0, 'Of the moments.')
  flag('timeout', 600.0, 'Seconds that a run may take.')
  what = 'Flags of the trainer, after --.'
  parser.add_argument('flags', nargs='*', help=what)
  args = parser.parse_args()
  from lingvo_gpipe import trainer
  from lingvo_gpipe.training import user_error

  try:
    trainer.check_flags([f'--model={args.model}', '--logdir=_', *args.flags])
  except user_error.UserError as error:
    parser.error(str(error))
  # Imported before the forks, each of which would else take seconds for it.
  trainer.preload()
  directory = pathlib.Path(tempfile.mkdtemp(prefix='kill_trainer_'))
  trainings = _Trainings(args, directory)
  trainings.reference()
  left = args.moments
  while left > 0:
    left -= trainings.killed(left)
  if trainings.errors:
    sys.exit('\n'.join(trainings.errors))
  shutil.rmtree(directory)
  print(f'{args.moments} kills: all losses and weights are bit-identical')


if __name__ == '__main__':
  main()
