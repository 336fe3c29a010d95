# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A test that pytest runs."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, src, data = [], deps = [], **kwargs):
    """Runs a file by pytest, with the configuration in pyproject.toml.

    Args:
      name: the target's name.
      src: the test file.
      data: files that it reads.
      deps: Python libraries that it imports.
      **kwargs: passed on to py_test.
    """
    py_test(
        name = name,
        srcs = [
            src,
            "//build_tools:pytest_main.py",
        ],
        args = ["$(rootpath %s)" % src],
        data = ["//:pyproject.toml"] + data,
        # Packages have the __init__.py that they have in the sources, or none.
        legacy_create_init = 0,
        main = "//build_tools:pytest_main.py",
        deps = ["//:sitecustomize"] + deps,
        **kwargs
    )
