# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Looks for layers that break a promise of the pipeline.

Draws random lists of layers, and ways to run them as a pipeline: cuts,
schedules, recomputation, devices, with and without TensorFlow's graph
optimiser. All ways must give the same bits of the loss and of every gradient,
and about the numbers of the model without a pipeline. What fails is made as
small as possible and printed as Python: it can be a test.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent import futures

from lingvo_gpipe.training import cores
from tools.common import command

_EXAMPLES = """\
  tools/random_layers.py --draws 2000 --seed 7
  tools/random_layers.py --draws 100 --without batch_norm,lstm
"""
_WORKER = """
from tools.common import command
command.import_lingvo()
from drawn_layers import worker
worker.main()
"""
# Each graph that a process builds leaves something in its memory.
_DRAWS_A_PROCESS = 25
_SHOWN = 2000


def _parser() -> command.Parser:
  parser = command.Parser('tools/random_layers.py', __doc__, _EXAMPLES)
  flag, add = parser.flag, parser.add_argument
  flag('draws', 100, 'How many to draw.')
  flag('seed', 1, 'Which draws.')
  add(
    '--without',
    type=command.names,
    default=(),
    help='What to leave out, with commas: kinds of layers, not_optimised, '
    'input_gradient.',
  )
  add('--draw', help='A draw as it was printed: it is run again, and no other.')
  add(
    '--processes',
    type=int,
    default=cores.num_usable(),
    help='How many processes draw at a time. Default: one a core.',
  )
  return parser


def _run_worker(
  seed: int, draws: int, without: Sequence[str]
) -> dict[str, str]:
  """Problems, by the draw, that a process of its own finds."""
  done = subprocess.run(
    [
      *(sys.executable, '-c', _WORKER),
      *(str(seed), str(draws), *without),
    ],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    # It has crashed; what it wrote last has the draw.
    return {f'seed {seed}': done.stderr[-_SHOWN:]}
  return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; 0 if nothing was found."""
  args = _parser().parse_args(argv)
  if args.draw:
    return _run_again(args.draw)
  seeds = itertools.count(args.seed * 1_000_000)
  num_done, found = 0, {}
  with futures.ThreadPoolExecutor(args.processes) as threads:
    workers = {}
    for start in range(0, args.draws, _DRAWS_A_PROCESS):
      draws = min(_DRAWS_A_PROCESS, args.draws - start)
      future = threads.submit(_run_worker, next(seeds), draws, args.without)
      workers[future] = draws
    for future in futures.as_completed(workers):
      num_done += workers[future]
      for draw, problem in future.result().items():
        if draw not in found:
          print(f'\n{draw}\n  {problem}')
        found[draw] = problem
      print(f'{num_done} draws, {len(found)} failures', flush=True)
  return int(bool(found))


def _run_again(text: str) -> int:
  command.import_lingvo()
  from drawn_layers import comparing, draws

  problem = comparing.problem(eval(text, vars(draws)))
  print(problem or 'All variants agree.')
  return int(bool(problem))


if __name__ == '__main__':
  sys.exit(main())
