# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the generation of text by a Transformer in a pipeline.

The model's weights are random: speed does not depend on them. Each way must
give the same most probable tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from tools.benchmark.cases import Case
from tools.common import command

_EXAMPLES = """\
  tools/decode_speed.py                            4 layers of 256, K = 2
  tools/decode_speed.py --layers 12 --dim 768 --tokens 64 --devices 4
"""


_FLAGS = (
  ('layers', 4, 'Layers of the Transformer.'),
  ('dim', 256, 'Its model dimension.'),
  ('vocab', 1024, 'Different tokens.'),
  ('rows', 4, 'Texts that are generated at once.'),
  ('prompt', 8, 'Tokens of each prompt.'),
  ('tokens', 256, 'Tokens to generate for each.'),
  ('devices', 2, 'K: cells, each on a CPU device.'),
  ('runs', 3, 'Runs of each.'),
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/decode_speed.py', __doc__, _EXAMPLES)
  for name, default, what in _FLAGS:
    parser.flag(name, default, what, command.positive)
  parser.outputs()
  args = parser.parse_args(argv)
  # TensorFlow comes with it, and wrong flags are told before.
  from tools.benchmark import decode_speed

  case = Case(
    *('decode', 'transformer', args.layers, args.dim, args.rows),
    num_cells=args.devices,
    num_micro_batches=min(args.devices, args.rows),
    example_size=args.prompt + args.tokens,
    num_ids=args.vocab,
  )
  different: list[str] = []

  def found() -> Iterator[tuple[str, dict[str, Any]]]:
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
      if not (ids == right).all():
        different.append(name)
    table = text_table.table(['', 'seconds', 'tokens/s', 'times as fast'], rows)
    yield table, {'case': vars(case), 'results': figures}

  note = (
    f'\n{args.tokens} tokens for each of {args.rows} prompts of {args.prompt}; '
    f'{args.layers} layers of {args.dim}, {args.vocab} different tokens; '
    f'K = {args.devices}. Best of {args.runs}.'
  )
  status = command.report(parser, args, found(), note)
  if different:
    print(f'Other tokens than by whole passes: {", ".join(different)}.')
  return status or int(bool(different))
