# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands of this package share: flags, log and errors.

exit status 0   done
            1   an error of the program: one line, and a traceback in the log
            2   a mistake of the user, for instance more cells than the model
                has layers: one line
            3   a worker was lost: one line; the training can be started again
          130   interrupted
"""

import os
import re
import sys
import time
import traceback

from absl import flags

from lingvo_gpipe.partitioner import PartitionError
from lingvo_gpipe.training import notices, run_log, user_error

FLAGS = flags.FLAGS


def _parse(name, argv):
  try:
    rest = FLAGS(argv)[1:]
  except flags.Error as error:
    raise user_error.UserError(str(error).replace('\n', ' ')) from error
  if rest:
    raise user_error.UserError(
      f'{rest[0]!r}: not a flag; flags start with --, see {name} --help.'
    )


def _wants_help(argv):
  return any(arg in ('-h', '-help', '--help', '--helpfull') for arg in argv[1:])


def _print_help(doc, argv):
  everything = '--helpfull' in argv
  text = FLAGS.get_help() if everything else FLAGS.main_module_help()
  print(f'{doc}\n\nFlags:\n{text}')
  if not everything:
    print('\n--helpfull lists the flags of Lingvo as well.')


def _summary(error):
  """The line of an error that says most.

  A session's error starts with the stack that built the failing op; what went
  wrong comes after a line that names the op, and may be a list of root errors.
  """
  text = str(error).strip()
  for pattern in (r'^\s*\(0\) (.+)$', r'^Node: .*\n(.+)$', r'^(.+)$'):
    match = re.search(pattern, text, re.MULTILINE)
    if match:
      return f'{type(error).__name__}: {match[1]}'
  return type(error).__name__


def run(name, doc, load, argv=None):
  """Runs a command from the loading of TensorFlow to its exit status.

  Args:
    name: The command's name, for messages.
    doc: The text of --help.
    load: A function without arguments that imports what the command needs,
      defines its flags, and returns the command: a function of the `RunLog`
      and of the seconds that loading took, called with the flags parsed.
    argv: The command line; default: this process's.

  Returns:
    The exit status.
  """
  argv = sys.argv if argv is None else argv
  started = time.monotonic()
  log = run_log.RunLog()
  keep = False
  try:
    body = load()
    if _wants_help(argv):
      _print_help(doc, argv)
      return 0
    _parse(name, argv)
    with notices.shown_on(log.terminal):
      body(log, time.monotonic() - started)
    return 0
  except (user_error.UserError, PartitionError) as error:
    print(f'{name}: {error}', file=log.terminal)
    return getattr(error, 'exit_status', 2)
  except KeyboardInterrupt:
    print(f'\n{name}: interrupted.', file=log.terminal)
    return 130
  except Exception as error:
    keep = True
    os.write(2, traceback.format_exc().encode())  # Into the log.
    print(
      f'{name}: {_summary(error)}\n'
      f'{name}: where it happened is at the end of {log.path}',
      file=log.terminal,
    )
    return 1
  finally:
    log.close(keep)
