# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Under which conditions something was measured."""

import importlib.metadata
import os
import pathlib
import platform
import re
from collections.abc import Mapping
from typing import Any

from lingvo_gpipe.training import cores

# With more load than this other programs want the cores as well.
QUIET_LOAD = 0.5


def now() -> dict[str, Any]:
  """The machine, the versions, and how busy the machine is."""
  info = pathlib.Path('/proc/cpuinfo')
  text = info.read_text(errors='replace') if info.is_file() else ''
  cpu = re.search(r'^model name\s*: (.*)', text, re.MULTILINE)
  return {
    'cores': cores.num_usable(),
    'machine': platform.machine(),
    'cpu': cpu[1].strip() if cpu else '',
    'system': platform.platform(),
    'python': platform.python_version(),
    **{
      name: importlib.metadata.version(name)
      for name in ('tensorflow', 'lingvo', 'numpy')
    },
    'load': round(os.getloadavg()[0], 2),
  }


def describe(conditions: Mapping[str, Any]) -> str:
  """The conditions in a line, with a warning if the machine was busy."""
  kind = ', '.join(filter(None, (conditions['cpu'], conditions['machine'])))
  text = (
    f'{conditions["cores"]} cores ({kind}), {conditions["system"]}, TensorFlow '
    f'{conditions["tensorflow"]}, Lingvo {conditions["lingvo"]}, Python '
    f'{conditions["python"]}, load {conditions["load"]:.2f} at the start.'
  )
  if conditions['load'] > QUIET_LOAD:
    text += (
      '\nThe machine was busy with other programs: the times say little. Run '
      f'this again when the load is below {QUIET_LOAD}.'
    )
  return text
