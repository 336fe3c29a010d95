# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from build_tools import source_files
from build_tools.source_files import SourceFile


def _scan(text, path='lingvo_gpipe/a/b.py', module='lingvo_gpipe.a.b'):
  return source_files.scan(text, SourceFile(path, module))


def _imports(text, **kwargs):
  return [imported.name for imported in _scan(text, **kwargs).imports]


@pytest.mark.parametrize(
  'text',
  [
    'import lingvo_gpipe.x',
    'def f():\n  import lingvo_gpipe.x',
    'class A:\n  def f(self):\n    if self:\n      import lingvo_gpipe.x as y',
    'CODE = "import sys; import lingvo_gpipe.x"',
    'CODE = f"""\n  import lingvo_gpipe.x\n  print({3})\n  """',
    'run(["-c", "import lingvo_gpipe.x\\n" "print(1)"])',
  ],
)
def test_imports_are_found_wherever_they_are(text):
  assert 'lingvo_gpipe.x' in _imports(text)


@pytest.mark.parametrize(
  'text',
  [
    '"""import lingvo_gpipe.x"""',
    'def f():\n  """import lingvo_gpipe.x"""',
    'TEXT = "Please import lingvo_gpipe.x first."',
    '# import lingvo_gpipe.x',
  ],
)
def test_what_only_reads_like_an_import_is_none(text):
  assert _imports(text) == []


def test_imported_names_may_be_modules_and_have_their_line():
  first, second = _scan('\nfrom lingvo_gpipe.c import d, e').imports
  assert (first.name, first.is_module, first.line) == (
    'lingvo_gpipe.c.d',
    False,
    2,
  )
  assert second.name == 'lingvo_gpipe.c.e'


def test_relative_imports_are_resolved():
  text = 'from . import x\nfrom .y import z\nfrom ..w import v'
  assert _imports(text) == [
    'lingvo_gpipe.a.x',
    'lingvo_gpipe.a.y.z',
    'lingvo_gpipe.w.v',
  ]
  package = {'path': 'lingvo_gpipe/a/__init__.py', 'module': 'lingvo_gpipe.a'}
  assert _imports('from . import x', **package) == ['lingvo_gpipe.a.x']


@pytest.mark.parametrize(
  ('text', 'module'),
  [
    ('"image.shapes.Net"', 'image.shapes'),
    ('"--model=image.shapes.Net"', 'image.shapes'),
    ('f"stand_in.{name}"', 'stand_in'),
    ('f"lm.books.Transformer{13}"', 'lm.books'),
  ],
)
def test_names_of_models_are_seen(text, module):
  assert _scan(text + '.upper()').models == {module}


def test_names_of_modules_are_seen():
  named = _scan('run("-m", "lingvo_gpipe.run_it", "Not.lingvo.this one")')
  assert named.modules == {'lingvo_gpipe.run_it'}


@pytest.mark.parametrize(
  'text',
  [
    'ROOT / "docs" / "a.md"',
    'ROOT.parent / "docs/a.md"',
    'os.path.join(root(), "docs", "a.md")',
    'open("docs/a.md")',
  ],
)
def test_paths_are_seen(text):
  assert 'docs/a.md' in _scan(text).files


def test_parts_of_a_path_are_no_paths():
  assert _scan('f(ROOT / "docs" / "a.md")').files == {'docs/a.md'}


def test_a_program_is_known():
  assert _scan('if __name__ == "__main__":\n  main()').runs_as_program
  assert not _scan('if name == "__main__":\n  main()').runs_as_program


def test_files_have_the_names_that_they_are_imported_by(tmp_path):
  for path in (
    'lingvo_gpipe/__init__.py',
    'lingvo_gpipe/a.py',
    'tests/a/b_test.py',
    'tests/helper.py',
    'tools/t.py',
    'elsewhere/x.py',
  ):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
  assert {s.path: s.module for s in source_files.find(tmp_path)} == {
    'lingvo_gpipe/__init__.py': 'lingvo_gpipe',
    'lingvo_gpipe/a.py': 'lingvo_gpipe.a',
    'tests/a/b_test.py': 'a.b_test',
    'tests/helper.py': 'helper',
    'tools/t.py': 'tools/t',
  }
