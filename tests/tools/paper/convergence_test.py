# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from tools.paper import convergence, convergence_command


def _curve(*losses, label='K = 1'):
  return convergence.Curve(label, 1, 4, losses)


def test_differences_are_counted_by_step():
  a, b = _curve(1.0, 2.0, 3.0), _curve(1.0, 2.0, 3.0000002)
  assert convergence.num_differences([a, a, a]) == 0
  assert convergence.num_differences([a, b]) == 1


def test_the_picture_has_all_curves(tmp_path):
  path = tmp_path / 'curves.png'
  curves = [_curve(3.0, 2.0, label=f'K = {k}') for k in (1, 2, 4)]
  convergence.draw([*curves, _curve(3.0, 2.1)], 'title', path)
  assert path.read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ('--cells=1,x', 'use whole numbers'),
    ('--cells=0', 'must be numbers such as 1,2,4'),
    ('--steps=0', 'a whole number, 1 or more'),
    ('--model=lm.pydoc.Transformer', 'lm.pydoc.TransformerBytes'),
  ],
)
def test_mistakes_end_with_status_2(argv, message, refused):
  assert message in refused(convergence_command.main, [argv])


def test_two_cells_train_as_one_does(capsys):
  argv = ['--model=stand_in_pipeline.Small', '--steps=3', '--cells=1,2,4']
  assert convergence_command.main(argv) == 0
  text = capsys.readouterr().out
  assert 'all losses of 3 steps are bit-identical' in text
