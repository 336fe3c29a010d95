# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameter counts of the GPipe paper's models, beside the published ones.

The models are those of Table 1 of arXiv:1811.06965 and the announcement's
AmoebaNet-B, as they are registered. Each kind of layer is built once, in a
graph, where its variables take no memory: the largest model, of 84 billion
parameters, is counted on any machine.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lingvo_gpipe import text_table
from tools.benchmark import command

_EXAMPLES = """
examples:
  tools/parameter_counts.py
  tools/parameter_counts.py --models lm. --json counts.json
"""


@dataclasses.dataclass(frozen=True)
class PublishedModel:
  """A model whose size is published.

  Attributes:
    name: Its name in the publication.
    model: The name it is registered under.
    parameters: The published number of parameters, rounded as it is there.
  """

  name: str
  model: str
  parameters: float


def _amoebanet(variant: str, length: int, dim: int, parameters: float):
  return PublishedModel(
    f'AmoebaNet-{variant}({length}, {dim})',
    f'image.imagenet.AmoebaNet{variant}{length}x{dim}',
    parameters,
  )


def _transformer(length: int, parameters: float):
  return PublishedModel(
    f'Transformer-{length}', f'lm.paper.Transformer{length}', parameters
  )


PUBLISHED = (
  _amoebanet('D', 18, 208, 82e6),
  _amoebanet('D', 18, 416, 318e6),
  _amoebanet('D', 18, 544, 542e6),
  _amoebanet('D', 36, 544, 1.05e9),
  _amoebanet('D', 72, 512, 1.8e9),
  _amoebanet('B', 18, 512, 557e6),
  _transformer(3, 282.2e6),
  _transformer(13, 785.8e6),
  _transformer(103, 5.3e9),
  _transformer(415, 21.0e9),
  _transformer(1663, 83.9e9),
)


@dataclasses.dataclass(frozen=True)
class Counted:
  """A published model and how many parameters it has here."""

  published: PublishedModel
  parameters: int

  @property
  def difference(self) -> float:
    """By how much it has more than published, as a share of that."""
    return self.parameters / self.published.parameters - 1


def count_registered(model: str) -> int:
  """The trainable parameters of the pipeline of a registered model.

  Raises:
    UserError: There is no such model, or it has no GPipeSequentialLayer.
  """
  from lingvo_gpipe import sequential_layer
  from lingvo_gpipe.planner import plan_command

  params = plan_command.pipeline_params(model)
  # Without shapes nothing is counted but parameters.
  params.Set(
    input_shapes='', balance='params', num_partitions=1, device_memory=0
  )
  plan = sequential_layer.GPipeSequentialLayer.Plan(params, 1)
  return sum(layer.parameters for layer in plan.partition.layers)


def count_all(
  published: Iterable[PublishedModel],
  count: Callable[[str], int] = count_registered,
) -> list[Counted]:
  """Counts each of the models; `count` takes the name of a registered one."""
  return [Counted(model, count(model.model)) for model in published]


def as_text(counted: Iterable[Counted]) -> str:
  """A table with a model a row; also Markdown."""
  return text_table.table(
    ('model', 'parameters', 'published', 'difference', 'registered as'),
    [
      (
        row.published.name,
        f'{row.parameters:,}',
        text_table.short_count(row.published.parameters),
        f'{100 * row.difference:+.2f}%',
        row.published.model,
      )
      for row in counted
    ],
  )


def as_json(counted: Iterable[Counted]) -> list[dict[str, Any]]:
  """All figures, for json.dump."""
  return [
    {
      **dataclasses.asdict(row.published),
      'published': row.published.parameters,
      'parameters': row.parameters,
      'difference': row.difference,
    }
    for row in counted
  ]


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'tools/parameter_counts.py',
    description=__doc__,
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--models',
    default='',
    help='Count only models whose registered name contains this.',
  )
  parser.add_argument('--json', help='A file for all figures.')
  parser.add_argument('--markdown', help='A file for the table.')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  chosen = [model for model in PUBLISHED if args.models in model.model]
  if not chosen:
    parser.error(
      f'--models={args.models}: no name contains that; there are '
      f'{", ".join(model.model for model in PUBLISHED)}.'
    )
  started = time.monotonic()
  counted = count_all(chosen)
  text = as_text(counted)
  print(text)
  print(f'\nCounted in {time.monotonic() - started:.0f} s.', file=sys.stderr)
  command.write(args, text, as_json(counted))
  return 0
