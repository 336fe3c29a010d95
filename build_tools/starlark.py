# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The text of BUILD files, laid out as buildifier lays it out."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

_LICENCE = """\
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""

# Rule: the file that defines it. Others are built into Bazel.
_DEFINED_IN = {
  'declared_only': '//build_tools:python_program.bzl',
  'py_library': '@rules_python//python:defs.bzl',
  'pytest_test': '//build_tools:pytest_test.bzl',
  'python_program': '//build_tools:python_program.bzl',
}

Value = str | Collection[str]


@dataclasses.dataclass(frozen=True)
class Rule:
  """A call of the rule `kind`; labels in it are absolute.

  Attributes without a value, such as empty lists, are left out. The order of
  attributes, and of what is in lists, does not matter.
  """

  kind: str
  attributes: Mapping[str, Value]

  @property
  def name(self) -> str:
    """The target's name, '' if it has none."""
    name = self.attributes.get('name', '')
    assert isinstance(name, str)
    return name


def build_file(package: str, rules: Iterable[Rule], comment: str = '') -> str:
  """The text of a BUILD file.

  Args:
    package: the directory that it is for, '' for the root.
    rules: in the order in which to write them.
    comment: what to say first, lines that begin with '#'.
  """
  rules = list(rules)
  loads: dict[str, set[str]] = {}
  for rule in rules:
    if rule.kind in _DEFINED_IN:
      loads.setdefault(_DEFINED_IN[rule.kind], set()).add(rule.kind)
  # Buildifier's order: other repositories first.
  order = sorted(loads, key=lambda file: (not file.startswith('@'), file))
  blocks = [_LICENCE + (f'#\n{comment}' if comment else '')]
  if loads:
    lines = []
    for file in order:
      names = ', '.join(f'"{name}"' for name in sorted(loads[file]))
      lines.append(f'load("{file}", {names})\n')
    blocks.append(''.join(lines))
  blocks.append('package(default_visibility = ["//visibility:public"])\n')
  blocks += [_call(rule, package) for rule in rules]
  return '\n'.join(blocks)


def _call(rule: Rule, package: str) -> str:
  if rule.kind == 'exports_files':
    return f'exports_files({_list(sorted(rule.attributes["srcs"]), 0)})\n'
  lines = [f'{rule.kind}(\n']
  for name, value in sorted(rule.attributes.items(), key=_attribute_order):
    if isinstance(value, str):
      text = f'"{_shorten(value, package)}"'
    elif value:
      labels = {_shorten(label, package) for label in value}
      text = _list(sorted(labels, key=_label_order), 4)
    else:
      continue
    lines.append(f'    {name} = {text},\n')
  return ''.join([*lines, ')\n'])


def _list(values: list[str], indent: int) -> str:
  if len(values) == 1:
    return f'["{values[0]}"]'
  space = ' ' * indent
  lines = [f'{space}    "{value}",\n' for value in values]
  return '[\n' + ''.join(lines) + space + ']'


def _shorten(label: str, package: str) -> str:
  """A label as it is written in `package`."""
  directory, colon, name = label.partition(':')
  if not directory.startswith('//') or not colon:
    return label
  if directory == f'//{package}':
    return f':{name}'
  if directory.rpartition('/')[2] == name:
    return directory
  return label


def _label_order(label: str) -> tuple[bool, list[str]]:
  return not label.startswith(':'), label.replace(':', '/:').split('/')


def _attribute_order(item: tuple[str, object]) -> tuple[int, str]:
  first = ('name', 'size', 'timeout', 'src', 'srcs')
  name = item[0]
  if name in first:
    return first.index(name) - len(first), name
  return (1 if name == 'deps' else 0), name
