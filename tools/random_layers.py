#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Looks for layers that break a promise of the pipeline; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, f'{sys.path[0]}/tests')
sys.path.insert(0, f'{sys.path[0]}/helpers')

from drawn_layers.search import main

if __name__ == '__main__':
  sys.exit(main())
