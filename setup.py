# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packaging of lingvo_gpipe."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
# The folder model_params of a checkout is installed within lingvo_gpipe, where
# it cannot hide a user's package of that name.
_MODEL_PARAMS = 'model_params'


def _version() -> str:
  # Importing the package would need its dependencies.
  text = (_ROOT / 'lingvo_gpipe' / 'version.py').read_text(encoding='utf-8')
  return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)[1]


setuptools.setup(
  name='lingvo_gpipe',
  version=_version(),
  description='GPipe pipeline parallelism for Lingvo',
  long_description=(_ROOT / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  packages=[
    *setuptools.find_packages(include=['lingvo_gpipe', 'lingvo_gpipe.*']),
    *(
      f'lingvo_gpipe.{package}'
      for package in setuptools.find_packages(
        include=[_MODEL_PARAMS, f'{_MODEL_PARAMS}.*']
      )
    ),
  ],
  package_dir={f'lingvo_gpipe.{_MODEL_PARAMS}': _MODEL_PARAMS},
  entry_points={
    'console_scripts': [
      'lingvo_gpipe_check = lingvo_gpipe.check:main',
      'lingvo_gpipe_launch_local = lingvo_gpipe.launch_local:main',
      'lingvo_gpipe_plan = lingvo_gpipe.planner.plan_command:main',
      'lingvo_gpipe_trace = lingvo_gpipe.trace:run_command',
      'lingvo_gpipe_trainer = lingvo_gpipe.trainer:run_command',
    ],
  },
  python_requires='>=3.10',
  install_requires=[
    'absl-py',
    # TensorFlow Datasets imports it without asking for it.
    'importlib_resources',
    'lingvo>=0.14.1,<0.15',
    'numpy',
    # Lingvo imports pkg_resources, which setuptools 82 no longer has.
    'setuptools<82',
    'tensorflow>=2.21,<2.22',
    'tqdm',
  ],
  extras_require={
    # What draws pictures: traces, curves.
    'pictures': ['matplotlib'],
    # What runs the tests, and what checks the code.
    'tests': ['hypothesis', 'pytest', 'pytest-xdist'],
    'tools': ['mypy', 'ruff'],
  },
)
