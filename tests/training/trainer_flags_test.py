# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from lingvo_gpipe import trainer
from lingvo_gpipe.training import command, trainer_flags, user_error

_EVERY_COMMAND = """
import contextlib, io, json, sys
from absl import flags
from tools.docs import reference_page
found = {}
for call, main in reference_page.commands():
  sys.argv = ['command', '--worker_split_sise=2']
  said = io.StringIO()
  with contextlib.redirect_stderr(said):
    try:
      status = main()
    except SystemExit as exit:
      status = exit.code
  loaded = [m for m in ('tensorflow', 'lingvo.trainer') if m in sys.modules]
  found[call] = [status, loaded]
  for flag in flags.FLAGS.get_flags_for_module(main.__module__):
    delattr(flags.FLAGS, flag.name)
json.dump(found, sys.stdout)
"""


def test_every_command_tells_a_wrong_flag_before_tensorflow_is_imported():
  # stdout has what a command prints before it reads its flags: nothing.
  found = json.loads(
    subprocess.run(
      [sys.executable, '-c', _EVERY_COMMAND],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      check=True,
    ).stdout
  )
  assert 'python -m lingvo_gpipe.trainer' in found
  assert found == {call: [2, []] for call in found}


_WRONG = [
  ([], '--model: give one; it has no default.'),
  (['--model=a.B'], '--logdir: give one; it has no default.'),
  (['--worker_split_size=two'], 'flag --worker_split_size=two: '),
  (
    ['--schedule=2f2b'],
    "no schedule '2f2b'; it must be one of 'gpipe', '1f1b'",
  ),
  (['--trace_step=0'], 'flag --trace_step=0: 0 is not a positive integer'),
  (['--on_nan_loss=go'], 'one of <stop|skip>'),
  (['steps=3'], "'steps=3': not a flag"),
  (['--nouse_eager=3'], '--nouse_eager=3 does not take an argument'),
]


def test_what_is_wrong_is_said_as_after_the_imports(capfd):
  script = (
    'import sys\n'
    'from lingvo_gpipe import trainer\n'
    f'for argv in {[argv for argv, _ in _WRONG]!r}:\n'
    "  assert trainer.main(['trainer', *argv]) == 2\n"
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run([sys.executable, '-c', script], check=True)
  err = capfd.readouterr().err
  for line, (_, said) in zip(err.splitlines(), _WRONG, strict=True):
    assert line.startswith('trainer: ') and said in line
  trainer.preload()
  for argv, _ in _WRONG:
    with flagsaver.flagsaver():
      assert trainer.main(['trainer', *argv]) == 2
  assert capfd.readouterr().err == err


def _read():
  values = flags.FlagValues()
  for flag in flags.FLAGS.get_flags_for_module(trainer_flags):
    values[flag.name] = flag
  for call in trainer_flags._definitions():
    trainer_flags._define(call, values)
  return values


def test_flags_are_read_as_they_are_defined():
  trainer.preload()
  values = _read()
  ours = {
    flag.name: flag
    for module, defined in flags.FLAGS.flags_by_module_dict().items()
    if module.startswith(('lingvo.', 'lingvo_gpipe.'))
    and '.tasks.' not in module
    and not module.endswith(('.generate', '.first_run'))
    for flag in defined
  }
  assert set(ours) <= set(values)
  for name, flag in ours.items():
    read = values[name]
    assert (read.default, read.boolean) == (flag.default, flag.boolean), name
    assert type(read) is type(flag), name
    assert type(read.parser) is type(flag.parser), name


def test_reading_a_command_line_leaves_the_flags_of_the_process():
  trainer.preload()
  with flagsaver.flagsaver(schedule='gpipe'):
    command.check_flags('trainer', ['trainer', '--schedule=1f1b'])
    with pytest.raises(user_error.UserError):
      command.check_flags('trainer', ['trainer', '--schedule=2f2b'])
    assert flags.FLAGS.schedule == 'gpipe'


def test_flags_of_tensorflow_and_absl_are_not_refused():
  trainer.preload()
  read = set(_read())
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    # absl.logging is there before the command line is read.
    if module.startswith(('tensorflow.', 'absl.')) and 'logging' not in module:
      for flag in defined:
        if flag.name not in read:
          assert trainer_flags._may_be_defined(flag.name, ''), flag.name


@pytest.fixture
def model(tmp_path, monkeypatch):
  """A model in a package, a module of which defines flags."""
  package = tmp_path / 'their_package'
  (package / 'deep').mkdir(parents=True)
  (package / '__init__.py').write_text('')
  (package / 'deep' / '__init__.py').write_text('')
  (package / 'models.py').write_text('import math\nfrom .deep import settings')
  (package / 'deep' / 'settings.py').write_text(
    'from absl import flags\n'
    "flags.DEFINE_bool(name='their_flag', default=False, help='')"
  )
  monkeypatch.syspath_prepend(tmp_path)
  return package / 'models.py'


def test_a_flag_of_the_model_is_not_refused(model):
  may_be = trainer_flags._may_be_defined
  assert may_be('their_flag', 'their_package.models.Model')
  assert may_be('notheir_flag', 'their_package.models.Model')
  assert not may_be('their_flog', 'their_package.models.Model')
  assert not may_be('their_flag', 'no_package.models.Model')
  assert 'their_package' not in sys.modules


def test_a_schedule_that_the_model_may_register_is_not_refused(model):
  model.write_text("register_schedule('theirs', build)")
  argv = ['trainer', '--model=their_package.models.Model', '--logdir=x']
  command.check_flags('trainer', [*argv, '--schedule=theirs'])
  with pytest.raises(user_error.UserError, match="no schedule 'other'; it mus"):
    command.check_flags('trainer', [*argv, '--schedule=other'])
  assert 'their_package' not in sys.modules


@pytest.mark.parametrize('line', ['importlib.import_module(x)', 'def'])
def test_what_cannot_be_read_is_left_to_the_import(model, line):
  model.write_text(line)
  assert trainer_flags._may_be_defined('a_flag', 'their_package.models.Model')
