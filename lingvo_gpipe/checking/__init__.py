# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pipeline beside its plain layers: what `lingvo_gpipe.check` compares."""
