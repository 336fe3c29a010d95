# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from build_tools import starlark
from build_tools.starlark import Rule


def test_a_file_is_laid_out_as_buildifier_does():
  rules = [
    Rule('exports_files', {'srcs': ['b.md', 'a.md']}),
    Rule(
      'py_library',
      {
        'deps': ['//x:y', '//a/b:c', '//a:z', '//x/y:y', '@r//:t', '//x:a'],
        'srcs': ['one.py'],
        'data': [],
        'name': 'n',
      },
    ),
  ]
  text = starlark.build_file('x', rules, '# How.\n')
  assert (
    text.partition('Apache-2.0\n')[2]
    == """#
# How.

load("@rules_python//python:defs.bzl", "py_library")

package(default_visibility = ["//visibility:public"])

exports_files([
    "a.md",
    "b.md",
])

py_library(
    name = "n",
    srcs = ["one.py"],
    deps = [
        ":a",
        ":y",
        "//a:z",
        "//a/b:c",
        "//x/y",
        "@r//:t",
    ],
)
"""
  )
