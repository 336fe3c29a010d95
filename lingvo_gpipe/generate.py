# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Continues a text with a trained language model.


  python -m lingvo_gpipe.generate --model=lm.pydoc.TransformerPieces \\
    --logdir=LOGDIR --prompt='The return statement '
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from lingvo_gpipe.training import command

_DEFAULT_MODEL = 'lm.pydoc.TransformerPieces'


def _define_flags() -> None:
  define = flags.DEFINE_integer
  flags.DEFINE_string('prompt', '', 'The beginning of the text.')
  flags.DEFINE_string(
    'checkpoint', '', 'A checkpoint. Default: the newest one of --logdir.'
  )
  define('tokens', 200, 'How many tokens to add at most.', lower_bound=1)
  define('samples', 1, 'How many continuations to make.', lower_bound=1)
  flags.DEFINE_float(
    'temperature', 0.8, 'Logits are divided by it; 0: no randomness.'
  )
  define('top_k', 0, 'Choose among the k most probable tokens; 0: among all.')
  flags.DEFINE_float(
    'top_p', 0.95, 'Choose among the most probable tokens of this probability.'
  )
  define('seed', 0, 'Seed of the random numbers.')
  define('devices', 2, 'K: CPU devices of this process.', lower_bound=1)


def _load() -> Callable[[Any, float], None]:
  print('Loading TensorFlow and Lingvo ...', flush=True)
  from lingvo_gpipe import generating

  for name in ('model', 'logdir'):
    flags.declare_key_flag(name)
  flags.FLAGS.set_default('model', _DEFAULT_MODEL)
  flags.FLAGS.set_default('run_locally', 'cpu')

  def command_body(log: Any, loading_seconds: float) -> None:
    flags.FLAGS.worker_split_size = flags.FLAGS.devices
    generating.generate()

  return command_body


def main(argv: Sequence[str] | None = None) -> int:
  return command.run('generate', __doc__, _load, argv, define=_define_flags)


if __name__ == '__main__':
  sys.exit(main())
