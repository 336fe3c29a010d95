# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the BUILD files need to know that the files' text does not tell.

Add to these tables, then run `python -m build_tools.build_files`, which refuses
names of modules and files that are not there (any more). In names, * stands
for anything.
"""

_OPS = (
  'apply_packing',
  'ascii_tokens',
  'assertions',
  'best_step',
  'cached_call',
  'packing',
  'random_permutation',
  'static_map',
  'vocab',
  'vocab_file_tokens',
)

# Module: modules that it imports by names which are not written out in it.
LOADS: dict[str, list[str]] = {
  # When Lingvo is imported on a host whose C library is too old for its ops.
  'lingvo_gpipe.lingvo_ops.stand_in': [
    f'lingvo_gpipe.lingvo_ops.{op}' for op in _OPS
  ],
  # Documents all layers, models and commands that it finds.
  'tools.docs.reference_page': [
    'lingvo_gpipe.*',
    'model_params.*',
  ],
  # What a tool imports of the tests, where the reference runs all tools.
  'tools.docs.reference_page_test': ['drawn_layers.search'],
  'tools/reference': ['drawn_layers.search'],
  # Runs them by f'lingvo_gpipe.{name}'.
  'launch_local_test': ['lingvo_gpipe.launch_local', 'lingvo_gpipe.trainer'],
}

# Module: the package of which it imports what a user names. Programs that
# contain it carry the whole package; tests carry what they name.
LOADS_ANY: dict[str, str] = {
  'lingvo_gpipe.model_registration': 'model_params',
  'lingvo_gpipe.training.model_lookup': 'model_params',
}

# File: files that it reads and does not name by string constants.
READS: dict[str, list[str]] = {
  'tools/docs/reference_page.py': ['tools/*.py'],
  'tests/docs/links_test.py': ['LICENSE', 'docs/*', 'docs/images/*'],
}

# Test file: attributes of its target, in place of those that follow from what
# it imports: size small, or medium and the tag 'tensorflow'.
TEST_ATTRIBUTES: dict[str, dict[str, str | list[str]]] = {
  # These start processes with TensorFlow one after another.
  'tests/first_run_test.py': {'size': 'large', 'tags': ['tensorflow']},
  'tests/launch_local_test.py': {'size': 'large', 'tags': ['tensorflow']},
  'tests/training/kill_test.py': {'size': 'large', 'tags': ['tensorflow']},
}
