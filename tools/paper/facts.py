# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the GPipe paper publishes in its Tables 1 to 3, as data.

Huang et al., "GPipe: Efficient Training of Giant Neural Networks using
Pipeline Parallelism", arXiv:1811.06965v5: Table 1 (largest models), Table 2
(throughput on TPUs), Table 3 (throughput on GPUs without fast links).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

# "Each model parameter needs 12 bytes since we applied RMSProp", Table 1.
BYTES_A_PARAMETER = 12


@dataclasses.dataclass(frozen=True)
class LargestModel:
  """A column of Table 1.

  Attributes:
    family: 'AmoebaNet-D' or 'Transformer'.
    name: The model's name, as in the paper.
    model: The name it is registered under here.
    setting: 'Naive-1' (no pipeline, no recomputation) or 'Pipeline-K'.
    device_gigabytes: What a device has.
    parameters: Their number, rounded as it is there.
    parameter_memory: Gigabytes of parameters, over all devices, as printed.
    activation_memory: The same of activations at their peak.
    is_swapped: Whether the two memories stand in each other's row; see
      `memories`.
  """

  family: str
  name: str
  model: str
  mini_batch: int
  device_gigabytes: int
  setting: str
  parameters: float
  parameter_memory: float
  activation_memory: float
  is_swapped: bool = False

  @property
  def num_devices(self) -> int:
    """K."""
    return int(self.setting.split('-')[1])

  @property
  def memories(self) -> tuple[float, float]:
    """Gigabytes of parameters and of activations, as they must be meant.

    Of Transformer-3 the cell of activations, 3.15, is 12 bytes times its 282.2M
    parameters to the last digit, as in all other columns of Transformers, and
    that of parameters, 11.7, would be 41 bytes a parameter.
    """
    found = self.parameter_memory, self.activation_memory
    return (found[1], found[0]) if self.is_swapped else found


def _amoebanet(length: int, dim: int, *published: Any) -> LargestModel:
  name = f'AmoebaNet-D({length}, {dim})'
  model = f'image.imagenet.AmoebaNetD{length}x{dim}'
  return LargestModel('AmoebaNet-D', name, model, 128, 8, *published)


def _transformer(length: int, *published: Any) -> LargestModel:
  name, model = f'Transformer-{length}', f'lm.paper.Transformer{length}'
  return LargestModel('Transformer', name, model, 32, 16, *published)


TABLE_1 = (
  _amoebanet(18, 208, 'Naive-1', 82e6, 1.05, 6.26),
  _amoebanet(18, 416, 'Pipeline-1', 318e6, 3.8, 3.46),
  _amoebanet(18, 544, 'Pipeline-2', 542e6, 6.45, 8.11),
  _amoebanet(36, 544, 'Pipeline-4', 1.05e9, 12.53, 15.21),
  _amoebanet(72, 512, 'Pipeline-8', 1.8e9, 24.62, 26.24),
  _transformer(3, 'Naive-1', 282.2e6, 11.7, 3.15, True),
  _transformer(13, 'Pipeline-1', 785.8e6, 8.8, 6.4),
  _transformer(103, 'Pipeline-8', 5.3e9, 59.5, 50.9),
  _transformer(415, 'Pipeline-32', 21.0e9, 235.1, 199.9),
  _transformer(1663, 'Pipeline-128', 83.9e9, 937.9, 796.1),
)


@dataclasses.dataclass(frozen=True)
class Device:
  """An accelerator and its links, as their makers specify them.

  FLOPs a second, and bytes a second of its own memory and to a neighbour in one
  direction, at most; and where these figures are from.
  """

  name: str
  flops: float
  memory_bandwidth: float
  link_bandwidth: float
  sources: str


TPU_V2 = Device(
  'TPU v2 core',
  flops=46e12 / 2,
  memory_bandwidth=700e9 / 2,
  link_bandwidth=496e9 / 8,
  sources='half a chip of 46 TFLOP/s (bfloat16) and 700 GB/s, links of 496 '
  'Gbit/s: Jouppi et al., "A Domain-Specific Supercomputer for Training Deep '
  'Neural Networks", CACM 63(7), 2020',
)

TPU_V3 = Device(
  'TPU v3 core',
  flops=123e12 / 2,
  memory_bandwidth=900e9 / 2,
  link_bandwidth=656e9 / 8,
  sources='half a chip of 123 TFLOP/s (bfloat16) and 900 GB/s: '
  'cloud.google.com/tpu/docs/v3; links of 656 Gbit/s: Jouppi et al., 2020',
)

P100 = Device(
  'P100 over PCIe',
  flops=9.3e12,
  memory_bandwidth=732e9,
  # A copy to the host and one to the other device, one after the other.
  link_bandwidth=1 / (1 / 11.688e9 + 1 / 12.88e9),
  sources='9.3 TFLOP/s (float32) and 732 GB/s: NVIDIA; 12.9 GB/s to the host '
  'and 11.7 GB/s from it, one after the other, as the paper says transfers '
  'went: measured by Microway, "NVIDIA Tesla P100 PCI-E 16GB GPU Accelerator '
  'Up Close"',
)


@dataclasses.dataclass(frozen=True)
class Throughputs:
  """Half a table of throughputs: those of one model.

  Attributes:
    model: The name it is registered under here.
    mini_batch: Examples in a mini-batch here: Table 1's. The paper says "batch
      size was adjusted to fit memory if necessary", not to what.
    precision: Of the activations here. The paper does not say.
    device: For Table 2 that on which the paper fitted the largest models of the
      same family; for Table 3 the paper's.
    published: (M, K) to the throughput relative to that of `reference`.
  """

  table: str
  name: str
  model: str
  mini_batch: int
  precision: str
  device: Device
  published: Mapping[tuple[int, int], float]

  @property
  def reference(self) -> tuple[int, int]:
    """(M, K) of the throughput that is 1: the first one."""
    return next(iter(self.published))


def _grid(
  rows: Mapping[int, tuple[float, float, float]],
) -> Mapping[tuple[int, int], float]:
  """{M: throughputs for K = 2, 4, 8} by (M, K)."""
  return {
    (m, k): value
    for m, values in rows.items()
    for k, value in zip((2, 4, 8), values, strict=True)
  }


TABLES_2_AND_3 = (
  Throughputs(
    *('Table 2', 'AmoebaNet-D(18, 256)', 'image.imagenet.AmoebaNetD18x256'),
    *(128, 'bfloat16', TPU_V2),
    _grid({1: (1, 1.13, 1.38), 4: (1.07, 1.26, 1.72), 32: (1.21, 1.84, 3.48)}),
  ),
  Throughputs(
    *('Table 2', 'Transformer-48', 'lm.paper.Transformer48'),
    *(32, 'bfloat16', TPU_V3),
    _grid({1: (1, 1.07, 1.3), 4: (1.7, 3.2, 4.8), 32: (1.8, 3.4, 6.3)}),
  ),
  Throughputs(
    *('Table 3', 'AmoebaNet-D(18, 128)', 'image.imagenet.AmoebaNetD18x128'),
    *(128, 'float32', P100),
    _grid({32: (1, 1.7, 2.7)}),
  ),
  Throughputs(
    *('Table 3', 'Transformer-24', 'lm.paper.Transformer24'),
    *(32, 'float32', P100),
    _grid({32: (1, 1.8, 3.3)}),
  ),
)
