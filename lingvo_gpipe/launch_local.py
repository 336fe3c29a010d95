# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Starts workers, controller and trainer on this machine, and follows them.

  python -m lingvo_gpipe.launch_local --workers=4 -- \\
      --model=image.digits.AmoebaNetD --logdir=/tmp/digits

What follows -- are flags of lingvo_gpipe.trainer, for all processes. The
pipeline spans all workers unless --worker_split_size says otherwise: 2 makes
two pipelines of two cells side by side. Each process has its log in LOGDIR.
When one dies or hangs, all start again from the last checkpoint.
"""

import argparse
import contextlib
import functools
import os
import signal
import sys

from lingvo_gpipe.launching import local_cluster, private_network
from lingvo_gpipe.training import user_error


def _positive(text):
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} must be 1 or more')
  return value


def _parser(name):
  parser = argparse.ArgumentParser(
    prog=name,
    usage='%(prog)s [options] -- [trainer flags]',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    '--workers', type=_positive, default=2, help='worker processes (default 2)'
  )
  add(
    '--devices_per_worker',
    type=_positive,
    default=1,
    help='CPU devices of each worker (default 1)',
  )
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
    help="a job beside the training: 'evaler_Test', 'decoder_Test'; may be "
    'given several times',
  )
  add(
    '--evaluation_devices',
    type=_positive,
    default=1,
    help='CPU devices of each such job (default 1)',
  )
  add(
    '--max_restarts',
    type=int,
    default=10,
    help='how often the training may be started again (default 10)',
  )
  add(
    '--hang_seconds',
    type=_positive,
    default=20,
    help='silence after which a process counts as hanging (default 20)',
  )
  add(
    '--open_ports',
    action='store_true',
    help='let the servers listen on every network interface, with no '
    'authentication; without it they have a network of their own, which '
    'reaches nothing else',
  )
  add('trainer_flags', nargs='*', help=argparse.SUPPRESS)
  return parser


def _value(flags, name):
  """The value of the trainer's flag `name`, None if it isn't given."""
  value = None
  for i, flag in enumerate(flags):
    key, equals, rest = flag.lstrip('-').partition('=')
    if key == name:
      value = rest if equals else ''.join(flags[i + 1 : i + 2])
  return value


def _settings(parser, args):
  """What to start; leaves the program if the flags don't say."""
  flags = args.trainer_flags
  for name in ('model', 'logdir'):
    if not _value(flags, name):
      parser.error(f'--{name}=... is missing behind the --')
  for name in ('cluster_spec', 'job', 'task', 'run_locally', 'worker_cpus'):
    if _value(flags, name) is not None:
      parser.error(f'--{name} is set here; leave it out behind the --')
  extra = [f'--worker_cpus={args.devices_per_worker}']
  if _value(flags, 'worker_split_size') is None:
    extra.append(
      f'--worker_split_size={args.workers * args.devices_per_worker}'
    )
  logdir = os.path.abspath(os.path.expanduser(_value(flags, 'logdir')))
  try:
    os.makedirs(logdir, exist_ok=True)
  except OSError as error:
    parser.error(f'--logdir={logdir}: {error.strerror}')
  return local_cluster.Settings(
    num_workers=args.workers,
    controller=args.controller,
    evaluation_jobs=tuple(args.evaluate),
    evaluation_devices=args.evaluation_devices,
    logdir=logdir,
    trainer_flags=(*flags, *extra),
    max_restarts=args.max_restarts,
    hang_seconds=args.hang_seconds,
  )


@contextlib.contextmanager
def _stderr_into(path):
  """Leads what TensorFlow writes to descriptor 2 into a file."""
  sys.stderr.flush()
  with open(path, 'w', encoding='utf-8') as log:
    terminal = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


def _terminate(number, frame):
  del number, frame
  raise KeyboardInterrupt


def main(argv=None, name=None, check=None):
  """Runs the command; returns its exit status.

  Args:
    argv: The command line without the program's name; default: this process's.
    name: What messages call it and its trainer; default: each its own name.
    check: Called when all is loaded and nothing is started; raises a UserError
      if something is wrong.
  """
  trainer_name, name = name or 'trainer', name or 'launch_local'
  parser = _parser(name)

  def say(line):
    print(f'{name}: {line}', flush=True)

  args = parser.parse_args(argv)
  settings = _settings(parser, args)
  if not args.open_ports:
    try:
      private_network.enter()
    except OSError as error:
      parser.error(
        'this system does not let the processes have a network of their own '
        f'({error.strerror}), and without it anyone who reaches this machine '
        'reaches them; --open_ports allows that'
      )
  signal.signal(signal.SIGTERM, _terminate)
  say('Loading TensorFlow and Lingvo ...')
  with _stderr_into(f'{settings.logdir}/log_launch_local.txt'):
    from lingvo_gpipe import trainer

    trainer.preload()
    try:
      if check is not None:
        check()
    except user_error.UserError as error:
      say(error)
      return error.exit_status
  say(
    f'{args.workers} worker(s) with {args.devices_per_worker} device(s) each; '
    f'logs: {settings.logdir}/log_*.txt'
  )
  trainer_main = functools.partial(trainer.main, name=trainer_name)
  return local_cluster.LocalCluster(settings, trainer_main, say).run()


if __name__ == '__main__':
  sys.exit(main())
