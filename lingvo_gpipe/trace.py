# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Traces some training steps to show when each device works and waits.

Runs real steps of a registered model, records when each task of its pipeline
ran, and writes beside that what the simulator makes of the same durations:

  trace.png      both timelines on one time axis
  trace.html     the same, to zoom into, with all figures
  trace.json     for https://ui.perfetto.dev and chrome://tracing
  report.txt     bubble, slowest cell, critical path, what would gain most, ...
  numbers.json   the same for programs

Nothing is kept of the training. All other flags are those of
lingvo_gpipe.trainer and, with --workers, of lingvo_gpipe.launch_local. In a
training of your own, lingvo_gpipe.trainer --trace_step=100 writes the same.
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
  lingvo_gpipe_trace --model=image.digits.AmoebaNetD --devices=4 \\
      --micro_batches=16 --schedule=gpipe --out=/tmp/digits
  lingvo_gpipe_trace --model=lm.pydoc.TransformerPieces --workers=2
"""


def _parser(name: str) -> argparse.ArgumentParser:
  parser = command.ArgumentParser(
    name,
    description=__doc__,
    epilog=_EXAMPLES,
    usage=f'{name} --model=MODEL [options] [trainer flags]',
  )
  add, number = parser.add_argument, parser.number
  add('--model', required=True, help='a registered model')
  number('--steps', 3, 'how many steps to trace')
  what = 'steps before the traced ones, of which the first optimises the graph'
  number('--warmup_steps', 4, what, least=0)
  add(
    '--devices',
    type=command.at_least(1),
    help='CPU devices of each process (default: 2, with --workers 1)',
  )
  what = 'worker processes for the pipeline; 0: only this process'
  number('--workers', 0, what, least=0)
  add('--out', default='trace', help="where to write (default: 'trace')")
  add(
    '--tensorboard',
    action='store_true',
    help='also write a file for TensorBoard into OUT/tensorboard',
  )
  return parser


def _own_flags(args: argparse.Namespace, logdir: str) -> list[str]:
  return [
    f'--model={args.model}',
    f'--logdir={logdir}',
    f'--max_steps={args.warmup_steps + args.steps}',
    f'--trace_step={args.warmup_steps + 1}',
    f'--trace_steps={args.steps}',
    f'--trace_dir={os.path.abspath(args.out)}',
  ]


def _check(
  parser: argparse.ArgumentParser, args: argparse.Namespace, more: list[str]
) -> None:
  """Ends the program if something is wrong that shows without TensorFlow."""
  own = _own_flags(args, args.out)
  for flag in own:
    name = flag.partition('=')[0]
    if any(other.partition('=')[0] == name for other in more):
      parser.error(f'{name} is set here; leave it out')
  try:
    if not args.workers:  # The launcher has flags of its own.
      trainer.check_flags([*own, *more])
    os.makedirs(args.out, exist_ok=True)
  except user_error.UserError as error:
    parser.error(str(error))
  except OSError as error:
    parser.error(f'--out={args.out}: {error.strerror}')


def _trace(name: str, args: argparse.Namespace, flags: list[str]) -> int:
  if args.workers:
    launch = [
      f'--workers={args.workers}',
      f'--devices_per_worker={args.devices or 1}',
      '--no-controller',
      '--max_restarts=0',
    ]
    return int(launch_local.main([*launch, *flags], name))
  print('Loading TensorFlow and Lingvo ...', flush=True)
  local = ['--run_locally=cpu', f'--worker_split_size={args.devices or 2}']
  return int(trainer.main([name, *flags, *local], name))


def _keep_for_tensorboard(logdir: str, out: str) -> None:
  kept = os.path.join(out, 'tensorboard')
  os.makedirs(kept, exist_ok=True)
  for path in glob.glob(f'{logdir}/**/events.out*', recursive=True):
    shutil.move(path, os.path.join(kept, os.path.basename(path)))
  print(f'For TensorBoard: tensorboard --logdir={kept}')


def main(argv: Sequence[str] | None = None, name: str | None = None) -> int:
  """Returns the exit status; messages begin with `name`, if it is given."""
  name = name or os.path.basename(sys.argv[0])
  parser = _parser(name)
  args, more = parser.parse_known_args(argv)
  more = [flag for flag in more if flag != '--']
  _check(parser, args, more)
  written = os.path.join(glob.escape(args.out), 'numbers*.json')
  for path in glob.glob(written):
    os.remove(path)
  logdir = tempfile.mkdtemp(prefix='lingvo_gpipe_trace_')
  status = 1
  try:
    status = _trace(name, args, [*_own_flags(args, logdir), *more])
    if status == 0 and not glob.glob(written):
      text = f'the steps ran, but nothing was traced; the log is in {logdir}'
      print(f'{name}: {text}', file=sys.stderr)
      status = 1
    if status == 0 and args.tensorboard:
      _keep_for_tensorboard(logdir, args.out)
  finally:
    if status != 1:  # Else the log says where it happened.
      shutil.rmtree(logdir, ignore_errors=True)
  return status


def run_command() -> NoReturn:
  command.exit_at_once(main())


if __name__ == '__main__':
  run_command()
