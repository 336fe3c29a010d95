# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the generation of text by a Transformer in a pipeline.

The model's weights are random: speed does not depend on them. It is generated
greedily, with keys and values of earlier tokens remembered by each cell (with
one micro-batch, and with one a cell), and by whole passes over all tokens so
far. The most probable tokens must be the same.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from lingvo_gpipe import text_table
from tools.benchmark import conditions, output_files

_EXAMPLES = """
examples:
  tools/decode_speed.py                            4 layers of 256, K = 2
  tools/decode_speed.py --layers 12 --dim 768 --tokens 64 --devices 4
"""

# Each flag: what it sets of a Case, its default, its help.
_FLAGS = {
  'layers': ('num_layers', 4, 'Layers of the Transformer.'),
  'dim': ('model_dim', 256, 'Its model dimension.'),
  'vocab': ('vocab_size', 1024, 'Different tokens.'),
  'rows': ('rows', 4, 'Texts that are generated at once.'),
  'prompt': ('prompt', 8, 'Tokens of each prompt.'),
  'tokens': ('tokens', 256, 'Tokens to generate for each.'),
  'devices': ('num_cells', 2, 'K: cells, each on a CPU device.'),
}


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value}: it must be 1 or more')
  return value


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/decode_speed.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  for flag, (name, default, what) in _FLAGS.items():
    parser.add_argument(
      f'--{flag}',
      dest=name,
      type=_positive,
      default=default,
      help=f'{what} Default: {default}.',
    )
  parser.add_argument(
    '--runs', type=_positive, default=3, help='Runs of each. Default: 3.'
  )
  parser.add_argument('--json', help='A file for all figures.')
  parser.add_argument('--markdown', help='A file for the table.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  args = _parser().parse_args(argv)
  from tools.benchmark import decode_speed

  case = decode_speed.Case(
    **{name: getattr(args, name) for name, _, _ in _FLAGS.values()}
  )
  machine = conditions.now()
  results = decode_speed.measure(case, args.runs)
  slowest = results[-1]
  rows = [
    [
      result.name,
      f'{result.seconds:.2f}',
      f'{result.tokens_per_second:.0f}',
      f'{slowest.seconds / result.seconds:.1f}',
    ]
    for result in results
  ]
  text = '\n'.join(
    [
      conditions.describe(machine),
      f'{case.tokens} tokens for each of {case.rows} prompts of {case.prompt}; '
      f'{case.num_layers} layers of {case.model_dim}, {case.vocab_size} '
      f'different tokens; K = {case.num_cells}. Best of {args.runs}.',
      '',
      text_table.table(['', 'seconds', 'tokens/s', 'times as fast'], rows),
    ]
  )
  print(text)
  output_files.write_text(args.markdown, text)
  output_files.write_json(
    args.json,
    {
      'conditions': machine,
      'case': vars(case),
      'results': [
        {
          'name': r.name,
          'seconds': r.seconds,
          'tokens_per_second': r.tokens_per_second,
        }
        for r in results
      ],
    },
  )
  different = [
    r.name for r in results if not np.array_equal(r.ids, slowest.ids)
  ]
  if different:
    print(f'Other tokens than by whole passes: {", ".join(different)}.')
    return 1
  return 0
