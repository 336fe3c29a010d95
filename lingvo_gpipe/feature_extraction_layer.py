# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of layers, and cutting a list of layers into such runs."""

from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer as FeatureExtractionLayer,
)
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  PartitionSequentialLayers as PartitionSequentialLayers,
)
