# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameter counts of the GPipe paper's models, next to the published ones.

The models are those of Table 1 of arXiv:1811.06965 and the announcement's
AmoebaNet-B, as they are registered. Each kind of layer is built once, in a
graph, where its variables take no memory: the largest model, of 84 billion
parameters, is counted on any machine.
"""

from collections.abc import Sequence

from lingvo_gpipe.cutting import text_table
from tools.common import command
from tools.paper import facts, model_costs

_EXAMPLES = """\
  tools/parameter_counts.py
  tools/parameter_counts.py --models lm. --json counts.json
"""
# Name, as published, registered name, and published number of parameters.
Published = tuple[str, str, float]
PUBLISHED: tuple[Published, ...] = (
  *((row.name, row.model, row.parameters) for row in facts.TABLE_1),
  ('AmoebaNet-B(18, 512)', 'image.imagenet.AmoebaNetB18x512', 557e6),
)


def count_registered(model: str) -> int:
  """The trainable parameters of the pipeline of a registered model."""
  # Without shapes nothing is counted but parameters.
  found = model_costs.plan(model, input_shapes='', balance='params')
  return sum(layer.parameters for layer in found.layers)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = command.Parser('tools/parameter_counts.py', __doc__, _EXAMPLES)
  what = 'Count only models whose registered name contains this.'
  parser.flag('models', '', what)
  parser.outputs()
  args = parser.parse_args(argv)
  chosen = [one for one in PUBLISHED if args.models in one[1]]
  if not chosen:
    parser.error(
      f'--models={args.models}: no name contains that; there are '
      f'{", ".join(model for _, model, _ in PUBLISHED)}.'
    )
  counted = [(one, count_registered(one[1])) for one in chosen]
  text = text_table.table(
    ('model', 'parameters', 'published', 'difference', 'registered as'),
    [
      (
        name,
        f'{parameters:,}',
        text_table.short_count(published),
        f'{100 * (parameters / published - 1):+.2f}%',
        model,
      )
      for (name, model, published), parameters in counted
    ],
  )
  print(text)
  figures = [
    {
      'name': name,
      'model': model,
      'published': published,
      'parameters': parameters,
      'difference': parameters / published - 1,
    }
    for (name, model, published), parameters in counted
  ]
  command.write(args, text, figures)
  return 0
