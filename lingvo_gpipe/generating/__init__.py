# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text from a trained model: what the command `lingvo_gpipe.generate` does."""
