# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the generation of text by a Transformer in a pipeline.

The model's weights are random: speed does not depend on them. It is generated
greedily, with keys and values of earlier tokens remembered by each cell (with
one micro-batch, and with one a cell), and by whole passes over all tokens so
far. The most probable tokens must be the same.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lingvo_gpipe.cutting import text_table
from tools.benchmark.cases import Case
from tools.common import command

_EXAMPLES = """\
  tools/decode_speed.py                            4 layers of 256, K = 2
  tools/decode_speed.py --layers 12 --dim 768 --tokens 64 --devices 4
"""


def _parser() -> command.Parser:
  parser = command.Parser('tools/decode_speed.py', __doc__, _EXAMPLES)
  for name, default, what in (
    ('layers', 4, 'Layers of the Transformer.'),
    ('dim', 256, 'Its model dimension.'),
    ('vocab', 1024, 'Different tokens.'),
    ('rows', 4, 'Texts that are generated at once.'),
    ('prompt', 8, 'Tokens of each prompt.'),
    ('tokens', 256, 'Tokens to generate for each.'),
    ('devices', 2, 'K: cells, each on a CPU device.'),
    ('runs', 3, 'Runs of each.'),
  ):
    parser.flag(name, default, what, command.positive)
  parser.outputs()
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  case = Case(
    *('decode', 'transformer', args.layers, args.dim, args.rows),
    num_cells=args.devices,
    num_micro_batches=min(args.devices, args.rows),
    example_size=args.prompt + args.tokens,
    num_ids=args.vocab,
  )
  different: list[str] = []

  def found() -> tuple[str, dict[str, Any]]:
    from tools.benchmark import decode_speed

    results = decode_speed.measure(case, args.prompt, args.runs)
    slowest, right = results['whole passes']
    rows, figures = [], []
    for name, (seconds, ids) in results.items():
      speed = args.rows * args.tokens / seconds
      figures.append(
        {'name': name, 'seconds': seconds, 'tokens_per_second': speed}
      )
      times = f'{slowest / seconds:.1f}'
      rows.append([name, f'{seconds:.2f}', f'{speed:.0f}', times])
      if not np.array_equal(ids, right):
        different.append(name)
    table = text_table.table(['', 'seconds', 'tokens/s', 'times as fast'], rows)
    return table, {'case': vars(case), 'results': figures}

  note = (
    f'\n{args.tokens} tokens for each of {args.rows} prompts of {args.prompt}; '
    f'{args.layers} layers of {args.dim}, {args.vocab} different tokens; '
    f'K = {args.devices}. Best of {args.runs}.'
  )
  status = command.report(parser, args, found, note)
  if different:
    print(f'Other tokens than by whole passes: {", ".join(different)}.')
  return status or int(bool(different))
