# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Traces some training steps to show when each device works and waits.

Runs real steps of a registered model, records when each task of its pipeline
ran, and writes beside that what the simulator makes of the same durations:

  trace.png      both timelines on one time axis
  trace.html     the same, to zoom into, with all figures; loads nothing else
  trace.json     for https://ui.perfetto.dev and chrome://tracing
  report.txt     utilisation, bubble, critical path, slowest cell, transfers,
                 and what would gain most
  numbers.json   the same for programs

The pipeline has CPU devices of this process, or those of worker processes that
are started for it. Nothing is kept of the training. In a training of your own,
lingvo_gpipe.trainer --trace_step=100 writes the same.
"""

import argparse
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import NoReturn

from lingvo_gpipe import launch_local, trainer
from lingvo_gpipe.training import command, user_error

_EXAMPLES = """
examples:
  lingvo_gpipe_trace --model=image.fashion_mnist.AmoebaNetD --steps=3
  lingvo_gpipe_trace --model=image.digits.AmoebaNetD --devices=4 \\
      --micro_batches=16 --schedule=gpipe --out=/tmp/digits
  lingvo_gpipe_trace --model=lm.pydoc.TransformerPieces --workers=2 \\
      --tensorboard
"""
_WRITTEN = 'numbers.json'
# What this command sets in the trainer.
_OWN = (
  'model',
  'logdir',
  'max_steps',
  'micro_batches',
  'schedule',
  'recompute',
  'trace_step',
  'trace_steps',
  'trace_dir',
  'run_locally',
  'cluster_spec',
  'job',
  'worker_split_size',
  'worker_cpus',
)


def _parser(name: str) -> argparse.ArgumentParser:
  parser = command.ArgumentParser(
    name,
    description=__doc__,
    epilog=_EXAMPLES,
    usage=f'{name} --model=MODEL [options] [-- trainer flags]',
  )
  add = parser.add_argument
  add('--model', required=True, help='a registered model')
  parser.number('--steps', 3, 'how many steps to trace')
  parser.number(
    '--warmup_steps',
    4,
    'steps before the traced ones, of which the first optimises the graph',
    least=0,
  )
  add(
    '--devices',
    type=command.at_least(1),
    help='CPU devices of each process (default: 2, with --workers 1)',
  )
  what = 'worker processes for the pipeline; 0: only this process'
  parser.number('--workers', 0, what, least=0)
  add('--out', default='trace', help="where to write (default: 'trace')")
  add(
    '--tensorboard',
    action='store_true',
    help='also write a file for TensorBoard into OUT/tensorboard',
  )
  add(
    '--open_ports',
    action='store_true',
    help='let workers listen on every network interface if the system does not '
    'allow a private network; see launch_local',
  )
  for option, what in (
    ('micro_batches', 'M'),
    ('schedule', "the schedule's name"),
    ('recompute', 'the recompute policy'),
  ):
    add(f'--{option}', help=f'{what} (default: the model says)')
  add('trainer_flags', nargs='*', help=argparse.SUPPRESS)
  return parser


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
  """Leaves the program if something is wrong that shows without TensorFlow."""
  for flag in args.trainer_flags:
    name = flag.lstrip('-').partition('=')[0]
    if name in _OWN:
      parser.error(f'--{name} is set here; leave it out after the --')
  try:
    trainer.check_flags(trainer_flags(args, args.out))
  except user_error.UserError as error:
    parser.error(str(error))
  try:
    os.makedirs(args.out, exist_ok=True)
  except OSError as error:
    parser.error(f'--out={args.out}: {error.strerror}')


def trainer_flags(args: argparse.Namespace, logdir: str) -> list[str]:
  """The trainer's flags for what was asked, but where its devices are."""
  flags = [
    f'--model={args.model}',
    f'--logdir={logdir}',
    f'--max_steps={args.warmup_steps + args.steps}',
    f'--trace_step={args.warmup_steps + 1}',
    f'--trace_steps={args.steps}',
    f'--trace_dir={os.path.abspath(args.out)}',
  ]
  for name in ('micro_batches', 'schedule', 'recompute'):
    value = getattr(args, name)
    if value is not None:
      flags.append(f'--{name}={value}')
  return flags + list(args.trainer_flags)


def _trace(name: str, args: argparse.Namespace, logdir: str) -> int:
  """Runs the steps; returns the exit status."""
  flags = trainer_flags(args, logdir)
  if args.workers:
    launch = [
      f'--workers={args.workers}',
      f'--devices_per_worker={args.devices or 1}',
      '--no-controller',
      '--max_restarts=0',
    ]
    if args.open_ports:
      launch.append('--open_ports')
    return int(launch_local.main([*launch, '--', *flags], name))
  print('Loading TensorFlow and Lingvo ...', flush=True)
  local = ['--run_locally=cpu', f'--worker_split_size={args.devices or 2}']
  return int(trainer.main([name, *flags, *local], name))


def _keep_for_tensorboard(logdir: str, out: str) -> None:
  """Moves what the trainer wrote for TensorBoard."""
  kept = os.path.join(out, 'tensorboard')
  os.makedirs(kept, exist_ok=True)
  for path in glob.glob(f'{logdir}/**/events.out*', recursive=True):
    shutil.move(path, os.path.join(kept, os.path.basename(path)))
  print(f'For TensorBoard: tensorboard --logdir={kept}')


def main(argv: Sequence[str] | None = None, name: str | None = None) -> int:
  """Runs the command; returns its exit status.

  Args:
    argv: The command line without the program's name; default: this process's.
    name: The program's name; default: as it was called.
  """
  name = name or os.path.basename(sys.argv[0])
  parser = _parser(name)
  args = parser.parse_args(argv)
  _check(parser, args)
  written = os.path.join(args.out, _WRITTEN)
  if os.path.exists(written):
    os.remove(written)
  logdir = tempfile.mkdtemp(prefix='lingvo_gpipe_trace_')
  status = 1
  try:
    status = _trace(name, args, logdir)
    if status == 0 and not os.path.exists(written):
      print(
        f'{name}: the steps ran, but nothing was traced; the log is in '
        f'{logdir}',
        file=sys.stderr,
      )
      status = 1
    if status == 0 and args.tensorboard:
      _keep_for_tensorboard(logdir, args.out)
  finally:
    if status != 1:  # Else the log says where it happened.
      shutil.rmtree(logdir, ignore_errors=True)
  return status


def run_command() -> NoReturn:
  """Runs the command as a process of its own, which ends with it."""
  command.exit_at_once(main())


if __name__ == '__main__':
  run_command()
