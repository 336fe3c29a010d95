# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs for `bazel run`."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library")

def python_program(
        name,
        deps,
        data = [],
        main = None,
        calls = None,
        runs = None):
    """A program that sees what its target declares, and nothing else.

    One of the last three arguments is given.

    Args:
      name: the target's name.
      deps: Python libraries that it imports or loads by name.
      main: the file to run.
      calls: "module:function" to call, as console scripts are given.
      runs: a module to run, as by python -m.
    """
    srcs = []
    if not main:
        main = name + "_main.py"
        if calls:
            module, function = calls.split(":")
            text = "import sys; from %s import %s as main; sys.exit(main())" % (
                module,
                function,
            )
        else:
            text = "import runpy; runpy.run_module('%s', None, '__main__', True)" % (
                runs,
            )
        native.genrule(
            name = name + "_main",
            outs = [main],
            cmd = "echo \"%s\" > $@" % text,
        )
    py_binary(
        name = name,
        srcs = [main],
        data = data,
        # Packages have the __init__.py that they have in the sources, or none.
        legacy_create_init = 0,
        main = main,
        deps = ["//:sitecustomize"] + deps,
    )

def declared_only(name):
    """A library that keeps programs to the files that they declare.

    Python imports sitecustomize when it starts, from the root of the files
    that Bazel gives a program.

    Args:
      name: the target's name.
    """
    native.genrule(
        name = name + "_py",
        outs = ["sitecustomize.py"],
        cmd = "echo 'from build_tools import declared_only; declared_only.install()' > $@",
    )
    py_library(
        name = name,
        srcs = ["sitecustomize.py"],
        deps = ["//build_tools:declared_only"],
    )
