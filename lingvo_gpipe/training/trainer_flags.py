# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer's flags and what they may be, known without TensorFlow.

Most flags are defined in modules that import TensorFlow, which takes seconds.
So `read` reads their definitions off the sources, and repeats them apart:

    lingvo/trainer.py:   tf.flags.DEFINE_integer('worker_split_size', 1, ...)
                            '--> the same in a FlagValues of its own

A flag that is not found so may be TensorFlow's, or of the model's module and
what that imports. These are searched for its name, and the imports tell.
"""

import ast
import copy
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Iterator

from absl import flags

from lingvo_gpipe import schedules
from lingvo_gpipe.training import user_error

flags.DEFINE_integer(
  'max_steps',
  None,
  'Train to this step. Default: as the model says.',
  lower_bound=1,
)


def _is_schedule(name: str | None) -> bool:
  if name is not None:
    try:
      schedules.check_name(name)
    except ValueError as error:
      raise flags.ValidationError(str(error)) from error
  return True


flags.DEFINE_integer(
  'micro_batches',
  None,
  'M: the micro-batches that a mini-batch is split into. Default: as the model '
  'says.',
  lower_bound=1,
)
flags.DEFINE_string(
  'schedule',
  None,
  f"Order of the pipeline's tasks: {', '.join(schedules.SCHEDULE_NAMES)}, "
  "file:PATH, or a name that the model's module registers. Default: as the "
  'model says.',
)
flags.register_validator('schedule', _is_schedule)
flags.DEFINE_enum(
  'recompute',
  None,
  [*schedules.RECOMPUTE_POLICIES, schedules.FIT],
  'Which micro-batches have their forward pass recomputed in the backward '
  'pass, to save memory; fit: none of the layers that --device_memory has '
  'room to keep. Default: as the model says.',
)
flags.DEFINE_string(
  'device_memory',
  None,
  "What a device may hold, such as '8GiB': no cell is cut that needs more. "
  'Default: as the model says.',
)
flags.DEFINE_integer(
  'worker_cpus',
  None,
  'CPU devices of a worker without GPUs and TPUs. Default: with --run_locally, '
  'those of one pipeline (--worker_split_size); with --cluster_spec, 1.',
  lower_bound=1,
)
flags.DEFINE_integer(
  'worker_wait_seconds',
  300,
  'How long to wait at the start for workers of --cluster_spec that have not '
  'started yet.',
  lower_bound=0,
)

_DEFINE_FLAGS = {'lingvo.trainer', 'lingvo_gpipe.tracing.step_tracer'}
_DEFINITION = r'DEFINE_\w+\(\s*[\'"]%s[\'"]'
# What is searched as a whole for a flag.
_SEARCHED = ('absl', 'lingvo', 'tensorflow')
_NOT_FOLLOWED = ('lingvo_gpipe', 'numpy', '__main__', '')

MODES = (
  'sync',
  'async',
  'inspect_params',
  'inspect_model',
  'inspect_evaler',
  'inspect_decoder',
  'write_inference_graph',
  'shell',
)
_JOBS = (
  'trainer_client',
  'controller',
  'worker',
  'evaler_Test',
  'decoder_Test',
  'evaler_once_Test@100',
  'trainer',
  'train_summaries',
  'ps',
  'input',
  'executor_tpu',
  'host_driven_executor_tpu',
)
_JOB_OF_A_DATASET = re.compile(
  r'evaler_once_([^_@]+)@\d+|(?!evaler_once_)(?:evaler|decoder)_(.+)'
)


def read(argv: list[str]) -> flags.FlagValues | None:
  """The flags that a command line may have, unparsed, to parse it with.

  They are copies, so that this process may go on with its own. None if only the
  imports will tell.
  """
  values = flags.FlagValues()
  for name in flags.FLAGS:
    if name == flags.FLAGS[name].name:  # Not its short name.
      values[name] = copy.deepcopy(flags.FLAGS[name])
  if not _DEFINE_FLAGS.issubset(sys.modules):
    _define(values)
  try:
    values.unparse_flags()
    values(argv)
  except flags.UnrecognizedFlagError as error:
    # What is known has been parsed.
    if _may_be_defined(error.flagname, values['model'].value or ''):
      return None
  except flags.IllegalFlagValueError:
    # The model's module may register the schedule.
    schedule = values['schedule'].value or 'auto'
    is_known = schedule in schedules.schedule_names()
    model = values['model'].value or ''
    if not is_known and _is_mentioned(re.escape(schedule), model):
      return None
  except (flags.Error, ValueError):
    pass  # The caller says that.
  finally:
    values.unparse_flags()
  return values


def _define(values: flags.FlagValues) -> None:
  lingvo, own = _package('lingvo'), _package('lingvo_gpipe')
  for directory in (lingvo, lingvo / 'core', own / 'training', own / 'tracing'):
    for file in sorted(directory.glob('*.py')):
      source = file.read_text(encoding='utf-8')
      if not re.search(_DEFINITION % r'\w+', source):
        continue
      for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
          continue
        kind = call.func.attr if isinstance(call.func, ast.Attribute) else ''
        if not kind.startswith('DEFINE_'):
          continue
        if ast.literal_eval(call.args[0]) not in values:
          args = map(ast.literal_eval, call.args)
          kwargs = {
            str(k.arg): ast.literal_eval(k.value) for k in call.keywords
          }
          getattr(flags, kind)(*args, **kwargs, flag_values=values)


def _package(name: str) -> pathlib.Path:
  spec = importlib.util.find_spec(name)
  if spec and spec.submodule_search_locations:
    return pathlib.Path(spec.submodule_search_locations[0])
  return pathlib.Path((spec and spec.origin) or os.devnull)


def _sources(name: str) -> Iterator[str]:
  place = _package(name)
  for file in [place, *place.rglob('*.py')]:
    if file.is_file():
      yield file.read_text(encoding='utf-8', errors='replace')


def _may_be_defined(flag: str, model: str) -> bool:
  # A boolean flag may be negated.
  names = rf'(?:{re.escape(flag)}|{re.escape(flag.removeprefix("no"))})'
  definition = re.compile(_DEFINITION % names)
  return _is_mentioned(names, model) or any(
    definition.search(source)
    for package in _SEARCHED
    for source in _sources(package)
  )


def _is_mentioned(names: str, model: str) -> bool:
  """Whether sources that the model's module may import have such a text.

  These are the module's package, and the packages that it imports.
  """
  mention = re.compile(
    rf'[\'"]{names}[\'"]|\b(?:importlib|pkgutil|__import__|exec)\b'
  )
  seen = {*sys.stdlib_module_names, *_SEARCHED, *_NOT_FOLLOWED}
  packages = [model.partition('.')[0], 'model_params'] if model else []
  while packages:
    name = packages.pop()
    if name not in seen:
      seen.add(name)
      for source in _sources(name):
        if mention.search(source):
          return True
        packages += re.findall(r'^\s*(?:from|import) (\w+)', source, re.M)
  return False


def dataset_of(job: str) -> str:
  """The dataset that a job such as 'evaler_Test' evaluates; '' if none."""
  match = _JOB_OF_A_DATASET.fullmatch(job)
  return (match[1] or match[2]) if match else ''


def check_jobs(jobs: str, flag: str = 'job') -> None:
  """Raises UserError if one of the flag's `jobs`, with commas, is none."""
  for job in filter(None, jobs.split(',')):
    if job not in _JOBS and not dataset_of(job):
      raise user_error.unknown(flag, jobs, 'job', job, _JOBS)
