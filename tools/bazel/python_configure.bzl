# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Python that Bazel runs: the project's own environment."""

# Prints where it is, or why it cannot be used.
_CHECK = """
import importlib.util, sys
version = '.'.join(map(str, sys.version_info[:3]))
missing = [
    name for name in ('tensorflow', 'lingvo', 'pytest')
    if importlib.util.find_spec(name) is None
]
if not (3, 10) <= sys.version_info < (3, 14):
    sys.exit('it is Python ' + version + ', 3.10 to 3.13 is needed')
if missing:
    sys.exit('it has no ' + ', '.join(missing))
print(sys.executable)
"""

_BUILD = """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "runtime",
    interpreter_path = {interpreter},
    python_version = "PY3",
    # Programs start with the interpreter too, not with PATH's python.
    stub_shebang = {shebang},
)

py_runtime_pair(
    name = "runtimes",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtimes",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

_ADVICE = "Make the environment by tools/setup_env.sh and activate it, or set " + \
          "LINGVO_GPIPE_PYTHON to an interpreter that has the project's " + \
          "requirements."

def _python_configure_impl(repository_ctx):
    named = repository_ctx.os.environ.get("LINGVO_GPIPE_PYTHON")
    what = "LINGVO_GPIPE_PYTHON=%s" % named if named else "python3 on PATH"
    path = named or repository_ctx.which("python3")
    if not path or not repository_ctx.path(path).exists:
        fail("%s: there is no such interpreter. %s" % (what, _ADVICE))
    result = repository_ctx.execute([path, "-c", _CHECK])
    if result.return_code:
        fail("%s cannot be used: %s. %s" % (
            what,
            result.stderr.strip(),
            _ADVICE,
        ))
    interpreter = result.stdout.strip()
    repository_ctx.file("BUILD", _BUILD.format(
        interpreter = repr(interpreter),
        shebang = repr("#!" + interpreter),
    ))

python_configure = repository_rule(
    implementation = _python_configure_impl,
    # What an interpreter has installed can change at any time.
    configure = True,
    environ = [
        "LINGVO_GPIPE_PYTHON",
        "PATH",
    ],
    local = True,
    doc = "Registers LINGVO_GPIPE_PYTHON, or else python3 on PATH.",
)
