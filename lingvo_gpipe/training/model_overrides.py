# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mistakes in --model_params_override, each in one line.

Lingvo sets Params by such text wherever a model's Params are made, and raises
what comes of it: for a misspelt name a list of all Params at the root.
"""

import functools
import re

import lingvo.compat as tf
from lingvo import model_registry

from lingvo_gpipe.training import user_error

FLAGS = tf.flags.FLAGS

_TEXT, _FILE = 'model_params_override', 'model_params_file_override'


def install():
  """Has them told as UserErrors from now on."""
  registry = model_registry._ModelRegistryHelper
  lingvos = registry.MaybeUpdateParamsFromFlags
  if hasattr(lingvos, '__wrapped__'):
    return

  @functools.wraps(lingvos)
  def update(cfg):
    _check_file()
    try:
      lingvos(cfg)
    # AttributeError, ValueError, TypeError, SyntaxError, AssertionError, ...
    except Exception as error:
      raise user_error.UserError(_what_is_wrong(cfg, error)) from error

  registry.MaybeUpdateParamsFromFlags = staticmethod(update)


def _check_file():
  file = FLAGS[_FILE].value
  if file and FLAGS[_TEXT].value:
    raise user_error.UserError(f'--{_FILE}, --{_TEXT}: give one of them.')
  # Lingvo would go on without it.
  if file and not tf.io.gfile.exists(file):
    raise user_error.UserError(f'--{_FILE}={file}: there is no such file.')


def _what_is_wrong(cfg, error):
  """The line for `error`, which Params `cfg` raised at what the flags give."""
  flag, text = _TEXT, FLAGS[_TEXT].value
  if text:
    text = text.replace(';', '\n')
  else:
    flag = _FILE
    with tf.io.gfile.GFile(FLAGS[_FILE].value) as file:
      text = file.read()
  for name, value in re.findall(
    r'^\s*([^\s#:]+)\s*:\s*(.*)$', text, re.MULTILINE
  ):
    try:
      now = cfg.Get(name)
    except Exception:
      # What ToText writes, FromText reads: 'name : value'.
      names = re.findall(r'^(\S+) : ', cfg.ToText(), re.MULTILINE)
      near = user_error.nearest(name, names)
      return f'--{flag}={name}:{value}: there is no such Param. {near}'.strip()
    try:
      cfg.Copy().FromText(f'{name}:{value}')
    except Exception as of_this:
      why = str(of_this).partition('\n')[0]
      if now is None:
        why = 'its value is None, so its type is not known here; set it in code'
      return f'--{flag}={name}:{value}: {why}.'
  return f'--{flag}: {error}'
