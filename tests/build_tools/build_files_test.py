# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import source_tree

from build_tools import build_files


def test_written_files_are_current_and_others_are_named(tmp_path, capsys):
  root = source_tree.write(
    tmp_path,
    {
      'build_tools/a.py': '',
      'lingvo_gpipe/lingvo_ops/stand_in.py': '',
      'tests/a_test.py': 'import build_tools.a',
      'tests/gone/BUILD': '',
      'third_party/x/BUILD': 'by hand',
    },
  )
  tables = {'loads': {}, 'loads_any': {}, 'reads': {}, 'test_attributes': {}}

  def run(*args):
    status = build_files.main(args, root, **tables)
    return status, capsys.readouterr()

  status, said = run('--check')
  assert status == 1
  assert 'build_tools/BUILD' in said.err
  assert 'tests/gone/BUILD' in said.err
  assert 'third_party' not in said.err
  assert said.err.endswith('Run: python -m build_tools.build_files\n')
  assert not (root / 'BUILD').exists()

  status, said = run()
  assert status == 0
  assert 'wrote tests/BUILD\n' in said.out
  assert 'removed tests/gone/BUILD\n' in said.out
  assert run('--check') == (0, ('', ''))

  (root / 'build_tools/b.py').touch()
  (root / 'tests/a_test.py').write_text('import build_tools.b')
  status, said = run('--check')
  assert status == 1
  assert said.err.startswith('Not current: build_tools/BUILD, tests/BUILD. ')


def test_what_cannot_be_built_is_told_in_one_line(tmp_path, capsys):
  root = source_tree.write(tmp_path, {'build_tools/a.py': 'import build_tools'})
  tables = {'loads': {}, 'loads_any': {}, 'reads': {}, 'test_attributes': {}}
  assert build_files.main([], root, **tables) == 2
  assert capsys.readouterr().err == (
    'build_files: build_tools/a.py:1 imports build_tools, which is not there\n'
  )
