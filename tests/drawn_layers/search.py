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
from collections.abc import Sequence
from concurrent import futures

from lingvo_gpipe.training import cores
from tools.common import command, fresh

_EXAMPLES = """\
  tools/random_layers.py --draws 2000 --seed 7
"""
# Each graph that a process builds leaves something in its memory.
_DRAWS_A_PROCESS = 25
_TIMEOUT = 24 * 3600.0


def _search(seed: int, draws: int) -> dict[str, str]:
  run = 'drawn_layers.worker.run'
  try:
    return dict(fresh.call(run, draws, seed, timeout=_TIMEOUT))
  except fresh.ProcessError as error:
    # It has crashed; what it wrote last has the draw.
    return {f'seed {seed}': str(error)}


def main(argv: Sequence[str] | None = None) -> int:
  parser = command.Parser('tools/random_layers.py', __doc__, _EXAMPLES)
  parser.flag('draws', 100, 'How many to draw.')
  parser.flag('seed', 1, 'Which draws.')
  what = 'A draw as it was printed: it is run again, and no other.'
  parser.flag('draw', '', what)
  what = 'How many processes draw at a time.'
  parser.flag('processes', cores.num_usable(), what)
  args = parser.parse_args(argv)
  if args.draw:
    return _run_again(args.draw)
  seeds = itertools.count(args.seed * 1_000_000)
  num_done, found = 0, {}
  with futures.ThreadPoolExecutor(args.processes) as threads:
    workers = {}
    for start in range(0, args.draws, _DRAWS_A_PROCESS):
      draws = min(_DRAWS_A_PROCESS, args.draws - start)
      future = threads.submit(_search, next(seeds), draws)
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
  command.parse_no_flags()
  from drawn_layers import comparing, draws

  problem = comparing.problem(eval(text, vars(draws)))
  print(problem or 'All variants agree.')
  return int(bool(problem))
