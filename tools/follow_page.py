#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints a page of docs/ as a script that follows it; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.docs import follow_page

if __name__ == '__main__':
  sys.exit(follow_page.main())
