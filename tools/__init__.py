# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs for those who work on this repository; not installed."""

import lingvo_gpipe  # noqa: F401  (before Lingvo: it may replace its ops)
