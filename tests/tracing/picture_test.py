# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe.tracing import analysis, bars, picture


def test_a_picture_is_a_png_with_rows_for_all_devices():
  pytest.importorskip('matplotlib')
  heights = []
  for num_cells in (2, 4):
    emitted = tt.emitted(num_cells=num_cells)
    of = tt.durations((1,) * num_cells, (2,) * num_cells)
    found = analysis.analyse(tt.step(emitted, of))
    png = picture.png(bars.panels(found, 3), 'A title')
    assert png.startswith(b'\x89PNG')
    heights.append(int.from_bytes(png[20:24], 'big'))
  assert heights[1] > heights[0] + 100
