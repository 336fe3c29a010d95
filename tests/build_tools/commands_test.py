# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from build_tools import commands


def test_console_scripts_of_the_project_are_found():
  setup = """setup(entry_points={'console_scripts': [
    'lingvo_gpipe_plan = lingvo_gpipe.planner.plan_command:main',
    'other = lingvo_gpipe.x:main',
  ]}, description='lingvo_gpipe_plan = it plans')"""
  assert commands.console_scripts(setup) == {
    'plan': 'lingvo_gpipe.planner.plan_command:main'
  }
