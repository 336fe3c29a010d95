# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

"""Tests that pytest runs."""

load("@rules_python//python:defs.bzl", "py_test")

def lingvo_gpipe_tests(files, light, large, data, deps):
    """A test for each file, and a suite for each folder.

    Args:
      files: the test files. engine/xla_test.py is :engine/xla_test, and in the
        suite :engine.
      light: those that need no TensorFlow. They are small; the others are
        medium, and have the tag "tensorflow".
      large: those that are large.
      data: a dict. What the files read whose paths start with a key.
      deps: what they import.
    """
    folders = {}
    for file in files:
        name = file[:-len(".py")]
        folders.setdefault(file.rpartition("/")[0], []).append(name)
        py_test(
            name = name,
            size = "large" if file in large else "small" if file in light else "medium",
            srcs = [
                file,
                "//tools/bazel:pytest_main.py",
            ],
            args = ["$(rootpath %s)" % file],
            data = ["//:pyproject.toml"] + [
                label
                for start, labels in data.items()
                if file.startswith(start)
                for label in labels
            ],
            # Packages have the __init__.py that they have in the sources.
            legacy_create_init = 0,
            main = "//tools/bazel:pytest_main.py",
            tags = [] if file in light else ["tensorflow"],
            deps = deps,
        )
    for folder, names in folders.items():
        if folder:
            native.test_suite(
                name = folder,
                tests = names,
            )
