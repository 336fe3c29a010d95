# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys

import pytest

import lingvo_gpipe

_SAYS = """
import json, sys, lingvo_gpipe
heavy = lambda: sorted({'tensorflow', 'lingvo', 'numpy'} & set(sys.modules))
before = heavy(), dir(lingvo_gpipe)
lingvo_gpipe.PutLayer
print()
print(json.dumps([*before, heavy()]))
"""


_LAYERS = sorted(set(lingvo_gpipe.__all__) - {'__version__'})


@pytest.mark.parametrize('name', _LAYERS)
def test_a_layer_of_the_package_is_the_one_of_its_module(name):
  found = getattr(lingvo_gpipe, name)
  assert getattr(sys.modules[found.__module__], name) is found


def test_layers_are_listed_at_once_and_loaded_when_they_are_used():
  said = subprocess.run(
    [sys.executable, '-c', _SAYS], stdout=subprocess.PIPE, check=True
  ).stdout
  before, listed, after = json.loads(said.splitlines()[-1])
  assert before == []
  assert set(lingvo_gpipe.__all__) <= set(listed)
  assert after == ['lingvo', 'numpy', 'tensorflow']


def test_other_names_are_no_attributes():
  with pytest.raises(AttributeError, match="'lingvo_gpipe' has no attribute"):
    _ = lingvo_gpipe.PutLayers
