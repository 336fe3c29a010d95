#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains one pipeline over several processes; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.paper import worker_table

if __name__ == '__main__':
  sys.exit(worker_table.main())
