# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPipe pipeline parallelism for Lingvo.

Import this package before Lingvo: on hosts too old for Lingvo's custom-op
library it puts TensorFlow implementations in the library's place.
"""

from lingvo_gpipe import lingvo_ops as _lingvo_ops
from lingvo_gpipe.version import __version__ as __version__

_lingvo_ops.install()
