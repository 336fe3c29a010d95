#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints the tables of the GPipe paper beside ours; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.paper import tables

if __name__ == '__main__':
  sys.exit(tables.main())
