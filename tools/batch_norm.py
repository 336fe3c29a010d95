#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares accuracies with batch norm, pipelined and not; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.paper import batch_norm_command

if __name__ == '__main__':
  sys.exit(batch_norm_command.main())
