#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the generation of text; see --help."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tools.benchmark import decode_command

if __name__ == '__main__':
  sys.exit(decode_command.main())
