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
  (['--schedule=2f2b'], "no schedule '2f2b'; it must be one of 'gpipe', '1f"),
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
  trainer_flags._define(values)
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
  read = _read()
  for module, defined in flags.FLAGS.flags_by_module_dict().items():
    # absl.logging is there before the command line is read.
    if module.startswith(('tensorflow.', 'absl.')) and 'logging' not in module:
      for flag in defined:
        if flag.name not in read:
          assert trainer_flags._may_be_defined(flag.name, ''), flag.name


@pytest.fixture
def model(tmp_path, monkeypatch):
  """A model that imports a package, a module of which defines flags."""
  (tmp_path / 'their_models.py').write_text('from their_package import x\n')
  package = tmp_path / 'their_package'
  package.mkdir()
  (package / 'settings.py').write_text(
    "flags.DEFINE_bool(name='their_flag', default=False, help='')\n"
    "register_schedule('theirs', build)\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  return package.parent / 'their_models.py'


@pytest.mark.parametrize(
  ('flag', 'refused'),
  [
    ('--their_flag', ''),
    ('--notheir_flag', ''),
    ('--their_flog', 'their_flog'),
    ('--schedule=theirs', ''),
    ('--schedule=other', "no schedule 'other'; it mus"),
  ],
)
def test_what_the_model_may_define_is_left_to_its_import(model, flag, refused):
  argv = ['trainer', '--model=their_models.Model', '--logdir=x', flag]
  if refused:
    with pytest.raises(user_error.UserError, match=refused):
      command.check_flags('trainer', argv)
    model.write_text('importlib.import_module(x)')  # It cannot be read off.
  command.check_flags('trainer', argv)
  assert 'their_models' not in sys.modules
