# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the server of `fresh` imports, once, without what TensorFlow says.

It must not run TensorFlow: threads do not survive a fork.
"""

import os

_errors = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

from tools.benchmark import case_cut, link_speed, worker_run  # noqa: E402, F401

os.dup2(_errors, 2)
