# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's custom ops on hosts where its library of them cannot load."""

from lingvo_gpipe.lingvo_ops.stand_in import (
  UnavailableOpError as UnavailableOpError,
)
from lingvo_gpipe.lingvo_ops.stand_in import install as install
