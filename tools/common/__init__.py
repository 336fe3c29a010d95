# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What programs share: flags and files, conditions, processes, their memory."""
