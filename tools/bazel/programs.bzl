# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

"""Programs for `bazel run`."""

load("@rules_python//python:defs.bzl", "py_binary")

def lingvo_gpipe_program(name, runs, deps = []):
    """A program with all of lingvo_gpipe and the registered models.

    Args:
      name: the target's name.
      runs: a module to run, as by python -m, or a file.
      deps: further libraries that it imports.
    """
    native.alias(
        name = name,
        actual = name + "_program",
    )
    py_binary(
        # The file of this name must not hide a folder that the program reads:
        # tools/benchmark is one.
        name = name + "_program",
        srcs = ["//tools/bazel:run_program.py"],
        args = [runs],
        # Packages have the __init__.py that they have in the sources, or none.
        legacy_create_init = 0,
        main = "//tools/bazel:run_program.py",
        deps = [
            "//lingvo_gpipe",
            "//model_params",
        ] + deps,
    )
