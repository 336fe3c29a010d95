# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Looks for layers that break a promise of the pipeline.

Draws random lists of layers, and ways to run them as a pipeline: cuts,
schedules, recomputation, devices, with and without TensorFlow's graph
optimiser. All ways must give the same bits of the loss and of every gradient,
and about the numbers of the model without a pipeline. What fails is made as
small as possible and printed as Python: it can be a test.
"""

import argparse
import itertools
import math
import sys
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from lingvo_gpipe.training import cores
from tools.benchmark import command, fresh

_EXAMPLES = """\
  tools/random_layers.py --draws 2000 --seed 7
  tools/random_layers.py --draws 100 --without batch_norm,lstm
"""


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
    help='How many processes draw at a time. Default: one a core.',
  )
  flag('draws_a_process', 25, 'After so many draws a process is replaced.')
  flag('shrink_seconds', 120.0, 'CPU seconds to make a failing draw smaller.')
  return parser


class _Search:
  """Workers that draw until enough is drawn."""

  def __init__(self, args: argparse.Namespace):
    self._args = args
    self._lock = threading.Lock()
    self._seeds = itertools.count(args.seed * 1_000_000)
    self._num_started = 0
    self.num_draws = 0
    self.found: dict[str, str] = {}

  def run(self) -> None:
    """Draws, and prints what is found on the way."""
    number = self._args.processes or cores.num_usable()
    with futures.ThreadPoolExecutor(number) as threads:
      for future in [threads.submit(self._work) for _ in range(number)]:
        future.result()

  def _work(self) -> None:
    while (draws := self._take()) > 0:
      seed = next(self._seeds)
      self._note(draws, self._ask_worker(seed, draws))

  def _ask_worker(self, seed: int, draws: int) -> Any:
    with fresh.Process(
      'drawn_layers.worker.Worker', seed, draws, self._args.shrink_seconds
    ) as process:
      process.ask('prepare', self._args.without)
      try:
        return process.ask('run', timeout=math.inf)
      except fresh.ProcessError as error:
        # It has crashed; the message has the draw.
        found = {'draw': f'seed {seed}', 'problem': str(error)}
        return {'draws': 1, 'found': [found]}

  def _take(self) -> int:
    """How many draws to do next."""
    with self._lock:
      left = self._args.draws - self._num_started
      draws = max(0, min(left, self._args.draws_a_process))
      self._num_started += draws
      return draws

  def _note(self, planned: int, reply: dict[str, Any]) -> None:
    with self._lock:
      self.num_draws += reply['draws']
      # A worker stops at the first failure.
      self._num_started -= planned - reply['draws']
      for found in reply['found']:
        if found['draw'] not in self.found:
          self.found[found['draw']] = found['problem']
          print(f'\n{found["draw"]}\n  {found["problem"]}')
      print(f'{self.num_draws} draws, {len(self.found)} failures', flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; 0 if nothing was found."""
  args = _parser().parse_args(argv)
  if args.draw:
    return _run_again(args.draw)
  search = _Search(args)
  search.run()
  return int(bool(search.found))


def _run_again(text: str) -> int:
  command.import_lingvo()
  from drawn_layers import comparing, draws

  problems = list(comparing.problems(eval(text, vars(draws))))
  print(*(problems or ['All variants agree.']), sep='\n')
  return int(bool(problems))


if __name__ == '__main__':
  sys.exit(main())
