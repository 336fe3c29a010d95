# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Starts workers, controller and trainer on this machine, and follows them.

  python -m lingvo_gpipe.launch_local --workers=4 -- \\
      --model=image.digits.AmoebaNetD --logdir=/tmp/digits

Flags after -- are flags of lingvo_gpipe.trainer, for all processes; the -- may
be left out. There is one pipeline over all workers unless --worker_split_size
says otherwise: 2 makes two pipelines of two cells. Each process has its own log
in LOGDIR. If one dies or hangs, all are restarted from the last checkpoint.
"""

import argparse
import difflib
import functools
import itertools
import os
import signal
import sys
from collections.abc import Sequence

from lingvo_gpipe import trainer
from lingvo_gpipe.launching import local_cluster, private_network
from lingvo_gpipe.training import command, logs, trainer_flags, user_error


def _parser(name: str) -> command.ArgumentParser:
  parser = command.ArgumentParser(
    name, usage='%(prog)s [options] -- [trainer flags]', description=__doc__
  )
  add, number = parser.add_argument, parser.number
  number('--workers', 2, 'worker processes')
  number('--devices_per_worker', 1, 'CPU devices of each worker')
  add(
    '--controller',
    action=argparse.BooleanOptionalAction,
    default=True,
    help="whether to start Lingvo's controller, which writes summaries",
  )
  add(
    '--evaluate',
    metavar='JOB',
    action='append',
    default=[],
    help="a job to run during training: 'evaler_Test', 'decoder_Test'; may be "
    'given several times',
  )
  number('--evaluation_devices', 1, 'CPU devices of each such job')
  what = 'how often the training may be restarted'
  number('--max_restarts', 10, what, least=0)
  what = 'seconds without output after which a process counts as hanging'
  number('--hang_seconds', 20, what)
  add(
    '--open_ports',
    action='store_true',
    help='let the servers listen on every network interface, with no '
    'authentication; without it they have a private network, which reaches '
    'nothing else',
  )
  return parser


def _parse(
  parser: command.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
  argv = sys.argv[1:] if argv is None else list(argv)
  end = argv.index('--') if '--' in argv else len(argv)
  args, before = parser.parse_known_args(argv[:end])
  flags = [*before, *argv[end + 1 :]]
  for name in ('cluster_spec', 'job', 'task', 'run_locally', 'worker_cpus'):
    if _value(flags, name) is not None:
      parser.error(f'--{name} is set here; leave it out')
  try:
    for job in args.evaluate:
      trainer_flags.check_jobs(job, 'evaluate')
    trainer.check_flags(flags)
  except user_error.UserError as error:
    own = parser._option_string_actions
    names = [flag.partition('=')[0] for flag in before]
    near = (difflib.get_close_matches(n, own, n=1, cutoff=0.8) for n in names)
    also = ', '.join(itertools.chain(*near))
    parser.error(f'{error} (this command has {also})' if also else str(error))
  return args, flags


def _value(flags: Sequence[str], name: str) -> str | None:
  value = None
  for i, flag in enumerate(flags):
    key, equals, rest = flag.lstrip('-').partition('=')
    if key == name:
      value = rest if equals else ''.join(flags[i + 1 : i + 2])
  return value


def main(argv: Sequence[str] | None = None, name: str | None = None) -> int:
  """Returns the exit status; messages call it, and its trainer, by `name`."""
  trainer_main = functools.partial(trainer.main, name=name or 'trainer')
  name = name or 'launch_local'
  parser = _parser(name)

  def say(line: str) -> None:
    print(f'{name}: {line}', flush=True)

  args, flags = _parse(parser, argv)
  logdir = _value(flags, 'logdir')
  if logdir is None:
    parser.error('--logdir: give it on the command line itself')
  logdir = os.path.abspath(os.path.expanduser(logdir))
  try:
    os.makedirs(logdir, exist_ok=True)
  except OSError as error:
    parser.error(f'--logdir={logdir}: {error.strerror}')
  if not args.open_ports:
    try:
      private_network.enter()
    except OSError as error:
      parser.error(
        'this system does not allow the processes a private network '
        f'({error.strerror}); --open_ports starts them where others reach them'
      )
  # As Ctrl-C does.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  say('Loading TensorFlow and Lingvo ...')
  log = logs.RunLog()
  try:
    log.move_to(f'{logdir}/log_launch_local.txt')
    trainer.preload()
  finally:
    log.close()
  say(
    f'{args.workers} worker(s) with {args.devices_per_worker} device(s) each; '
    f'logs: {logdir}/log_*.txt'
  )
  flags += [f'--worker_cpus={args.devices_per_worker}', f'--logdir={logdir}']
  if _value(flags, 'worker_split_size') is None:
    size = args.workers * args.devices_per_worker
    flags.append(f'--worker_split_size={size}')
  cluster = local_cluster.LocalCluster(args, flags, logdir, trainer_main, say)
  return cluster.run()


if __name__ == '__main__':
  sys.exit(main())
