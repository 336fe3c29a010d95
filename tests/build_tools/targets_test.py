# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import source_tree

from build_tools.import_graph import BuildError

# A package whose __init__.py imports of itself, as lingvo_gpipe's does.
_PACKAGE = {
  'lingvo_gpipe/__init__.py': 'from lingvo_gpipe import ops',
  'lingvo_gpipe/ops.py': '',
  'lingvo_gpipe/a.py': '',
}


def _target(root, files, label, **tables):
  package, _, name = label.partition(':')
  files = source_tree.build_files(root, files, **tables)
  return source_tree.target(files[f'{package}/BUILD'.lstrip('/')], name)


def test_a_module_depends_on_what_it_imports_and_on_its_package(tmp_path):
  files = {
    **_PACKAGE,
    'lingvo_gpipe/b/__init__.py': '',
    'lingvo_gpipe/b/c.py': 'from lingvo_gpipe import a',
    'lingvo_gpipe/d.py': 'def f():\n  from lingvo_gpipe.b import c',
  }
  assert _target(tmp_path, files, 'lingvo_gpipe/b:c') == (
    'py_library(srcs = ["c.py"], deps = [ ":b", "//lingvo_gpipe:a", ], )'
  )
  assert _target(tmp_path, files, 'lingvo_gpipe:d') == (
    'py_library(srcs = ["d.py"], '
    'deps = [ ":lingvo_gpipe", "//lingvo_gpipe/b:c", ], )'
  )


def test_a_package_that_imports_a_module_of_its_own_makes_no_circle(tmp_path):
  assert _target(tmp_path, _PACKAGE, 'lingvo_gpipe:lingvo_gpipe') == (
    'py_library(srcs = ["__init__.py"], deps = [":ops"], )'
  )
  assert _target(tmp_path, _PACKAGE, 'lingvo_gpipe:ops') == (
    'py_library(srcs = ["ops.py"], deps = [":__init__"], )'
  )
  assert _target(tmp_path, _PACKAGE, 'lingvo_gpipe:__init__') == (
    'py_library(srcs = ["__init__.py"], )'
  )


def test_from_outside_a_module_brings_its_package(tmp_path):
  files = {
    **_PACKAGE,
    'tests/a_test.py': 'import lingvo_gpipe.ops',
  }
  assert _target(tmp_path, files, 'tests:a_test') == (
    'pytest_test(size = "small", src = "a_test.py", '
    'deps = [ "//lingvo_gpipe", "//lingvo_gpipe:ops", ], )'
  )


def test_a_package_may_have_a_module_of_its_name(tmp_path):
  files = {'lingvo_gpipe/a/__init__.py': '', 'lingvo_gpipe/a/a.py': ''}
  assert _target(tmp_path, files, 'lingvo_gpipe/a:a') == (
    'py_library(srcs = ["a.py"], deps = [":a_package"], )'
  )


def test_modules_that_need_each_other_are_one_target(tmp_path):
  files = {
    'lingvo_gpipe/a.py': 'import lingvo_gpipe.b',
    'lingvo_gpipe/b.py': 'import lingvo_gpipe.a, lingvo_gpipe.c',
    'lingvo_gpipe/c.py': '',
  }
  assert _target(tmp_path, files, 'lingvo_gpipe:a') == (
    'py_library(srcs = [ "a.py", "b.py", ], deps = [":c"], )'
  )
  assert _target(tmp_path, files, 'lingvo_gpipe:b') == (
    'py_library(deps = [":a"], )'
  )


def test_modules_of_two_directories_that_need_each_other_are_refused(tmp_path):
  files = {
    'lingvo_gpipe/a.py': 'import model_params.b',
    'model_params/b.py': 'import lingvo_gpipe.a',
  }
  with pytest.raises(BuildError, match=r'lingvo_gpipe\.a, model_params\.b'):
    source_tree.build_files(tmp_path, files)


@pytest.mark.parametrize(
  'text',
  ['import lingvo_gpipe.lost', 'from lingvo_gpipe.lost import x'],
)
def test_an_import_of_what_is_not_there_is_refused(tmp_path, text):
  files = {**_PACKAGE, 'tests/a_test.py': f'\n{text}'}
  message = r'tests/a_test\.py:2 imports lingvo_gpipe\.lost,'
  with pytest.raises(BuildError, match=message):
    source_tree.build_files(tmp_path, files)


def test_a_program_in_a_string_may_import_what_is_not_there(tmp_path):
  files = {**_PACKAGE, 'tests/a_test.py': 'RUN = "import lingvo_gpipe.lost"'}
  assert 'deps' not in _target(tmp_path, files, 'tests:a_test')


def test_tests_have_their_helpers_and_conftests(tmp_path):
  files = {
    'tests/conftest.py': '',
    'tests/helper.py': '',
    'tests/a/conftest.py': '',
    'tests/b/conftest.py': '',
    'tests/a/a_test.py': 'import helper',
  }
  assert _target(tmp_path, files, 'tests/a:a_test') == (
    'pytest_test(size = "small", src = "a_test.py", '
    'deps = [ ":conftest", "//tests:conftest", "//tests:helper", ], )'
  )


def test_a_test_that_imports_tensorflow_somewhere_is_tagged(tmp_path):
  files = {
    'lingvo_gpipe/a.py': 'def f():\n  import tensorflow as tf',
    'lingvo_gpipe/b.py': 'import lingvo_gpipe.a',
    'tests/b_test.py': 'import lingvo_gpipe.b',
  }
  assert _target(tmp_path, files, 'tests:b_test') == (
    'pytest_test(size = "medium", src = "b_test.py", tags = ["tensorflow"], '
    'deps = ["//lingvo_gpipe:b"], )'
  )
  own = {'tests/b_test.py': {'size': 'large', 'tags': ['exclusive']}}
  assert ('size = "large", src = "b_test.py", tags = ["exclusive"]') in _target(
    tmp_path, files, 'tests:b_test', test_attributes=own
  )


def test_what_tests_name_in_strings_they_depend_on(tmp_path):
  files = {
    'docs/a.md': '',
    'lingvo_gpipe/run_it.py': '',
    'model_params/image/shapes.py': '',
    'tests/stand_in.py': '',
    'tests/golden.txt': '',
    'tests/a_test.py': (
      'run("-m", "lingvo_gpipe.run_it", "--model=stand_in.Small")\n'
      'run(ROOT / "tools" / "t.py", "image.shapes.Net")\n'
      'read(ROOT / "docs" / "a.md", HERE / "golden.txt", "no.txt")'
    ),
    'tools/t.py': '',
  }
  assert _target(tmp_path, files, 'tests:a_test') == (
    'pytest_test(size = "small", src = "a_test.py", '
    'data = [ ":golden.txt", "//:docs/a.md", ], '
    'deps = [ ":stand_in", "//lingvo_gpipe:run_it", '
    '"//model_params/image:shapes", "//tools:t_lib", ], )'
  )
  found = source_tree.build_files(tmp_path, files)
  assert 'exports_files(["golden.txt"])' in found['tests/BUILD']
  assert '"docs/a.md"' in found['BUILD']


def test_libraries_do_not_see_tests(tmp_path):
  files = {'lingvo_gpipe/a.py': 'import helper', 'tests/helper.py': ''}
  assert 'deps' not in _target(tmp_path, files, 'lingvo_gpipe:a')


def test_tools_see_tests(tmp_path):
  files = {'tools/t.py': 'from a import helper', 'tests/a/helper.py': ''}
  assert 'deps = ["//tests/a:helper"]' in _target(tmp_path, files, 'tools:t')


def test_programs_carry_what_they_can_be_asked_for(tmp_path):
  files = {
    'setup.py': "f(['lingvo_gpipe_train = lingvo_gpipe.b:main'])",
    'lingvo_gpipe/lookup.py': '',
    'lingvo_gpipe/b.py': 'import lingvo_gpipe.lookup',
    'lingvo_gpipe/c.py': 'if __name__ == "__main__":\n  pass',
    'model_params/m.py': '',
    'tools/t.py': 'import lingvo_gpipe.b',
  }
  tables = {'loads_any': {'lingvo_gpipe.lookup': 'model_params'}}
  assert _target(tmp_path, files, ':train', **tables) == (
    'python_program(calls = "lingvo_gpipe.b:main", '
    'deps = [ "//lingvo_gpipe:b", "//model_params:every_module", ], )'
  )
  assert _target(tmp_path, files, ':c', **tables) == (
    'python_program(runs = "lingvo_gpipe.c", deps = ["//lingvo_gpipe:c"], )'
  )
  assert '"//model_params:every_module"' in _target(
    tmp_path, files, 'tools:t', **tables
  )
  assert _target(tmp_path, files, 'model_params:every_module', **tables) == (
    'py_library(deps = [":m"], )'
  )


def test_tables_declare_modules_and_files_that_have_no_names(tmp_path):
  files = {
    'docs/a.md': '',
    'lingvo_gpipe/a.py': '',
    'lingvo_gpipe/b.py': '',
  }
  tables = {
    'loads': {'lingvo_gpipe.a': ['lingvo_gpipe.b*']},
    'reads': {'lingvo_gpipe/a.py': ['docs/*.md']},
  }
  assert _target(tmp_path, files, 'lingvo_gpipe:a', **tables) == (
    'py_library(srcs = ["a.py"], data = ["//:docs/a.md"], deps = [":b"], )'
  )


def test_what_is_loaded_by_name_alone_makes_no_test_slow(tmp_path):
  files = {
    'lingvo_gpipe/a.py': '',
    'lingvo_gpipe/b.py': 'import tensorflow',
    'tests/a_test.py': 'import lingvo_gpipe.a',
  }
  loads = {'lingvo_gpipe.a': ['lingvo_gpipe.b']}
  assert 'size = "small"' in _target(
    tmp_path, files, 'tests:a_test', loads=loads
  )


@pytest.mark.parametrize(
  ('table', 'name'),
  [
    ({'loads': {'lingvo_gpipe.x': []}}, 'LOADS: .* lingvo_gpipe.x'),
    ({'loads': {'lingvo_gpipe.a': ['y.*']}}, r'LOADS: .* y\.\*'),
    ({'reads': {'x.py': []}}, 'READS: .* x.py'),
    ({'reads': {'lingvo_gpipe/a.py': ['*.md']}}, r'READS: .* \*\.md'),
    ({'test_attributes': {'tests/x.py': {}}}, 'TEST_ATTRIBUTES: .* tests/x'),
  ],
)
def test_tables_do_not_outlive_what_they_name(tmp_path, table, name):
  with pytest.raises(BuildError, match=name):
    source_tree.build_files(tmp_path, {'lingvo_gpipe/a.py': ''}, **table)


def test_two_targets_of_one_name_are_refused(tmp_path):
  files = {'tests/a_test.py': '', 'tests/a_test_lib.py': 'import a_test'}
  with pytest.raises(BuildError, match='//tests:a_test_lib'):
    source_tree.build_files(tmp_path, files)


def test_a_file_that_is_not_python_is_named(tmp_path):
  with pytest.raises(BuildError, match=r'lingvo_gpipe/a\.py is not Python'):
    source_tree.build_files(tmp_path, {'lingvo_gpipe/a.py': 'def'})
