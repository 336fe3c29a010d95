# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.common import process_memory


@pytest.fixture(autouse=True, scope='session')
def linux():
  if not process_memory.available():
    pytest.skip('/proc takes Linux')
