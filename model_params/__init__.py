# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Params of the models that ship with lingvo_gpipe.

This package is `model_params` in a checkout, and `lingvo_gpipe.model_params`
where lingvo_gpipe is installed. After its import Lingvo's model registry finds
them by name, for instance as 'image.digits.AmoebaNetD'. So Lingvo's own trainer
runs them:

  python -c 'import model_params, runpy
  runpy.run_module("lingvo.trainer", run_name="__main__", alter_sys=True)' \
    --model=image.digits.AmoebaNetD --run_locally=cpu --mode=sync \
    --logdir=/tmp/digits
"""

from lingvo_gpipe import model_registration

model_registration.let_lingvo_find_models()
