#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Traces steps of a pipelined model; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lingvo_gpipe import trace

if __name__ == '__main__':
  trace.run_command()
