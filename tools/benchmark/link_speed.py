# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How fast tensors go from worker process to worker process.

```
  empty step   client --start--> worker 0, worker 1, ...   --done--> client
  there and back            x: worker 0 -> 1 -> 0 -> 1 -> ... -> 0
```

What an empty step takes, a small tensor's way more than that, and a large one's
more than a small one's are three unknowns, one after the other.
"""

import statistics
import timeit

import tensorflow.compat.v1 as tf

from tools.benchmark import servers, train_step

# A tensor goes there and back so often in one step.
_TURNS = 10
_LARGE_BYTES = 2**22
_WARM_UP_RUNS, _RUNS = 3, 20


def measure(num_workers: int) -> tuple[float, float | None]:
  """Measures workers of its own, each kept to a core.

  This process must not have run TensorFlow.

  Returns:
    Seconds of a transfer, however small, and bytes a second of it besides; 0
    and None with one worker.
  """
  if num_workers == 1:
    return 0.0, None
  tf.disable_eager_execution()
  with servers.worker_servers(num_workers) as (_, target):
    empty = _seconds(target, num_workers)
    small = _seconds(target, num_workers, tf.float32.size)
    large = _seconds(target, num_workers, _LARGE_BYTES)
  return speed(empty, small, large)


def speed(empty: float, small: float, large: float) -> tuple[float, float]:
  """What `measure` returns, by the seconds of steps.

  In a small one 4 bytes go there and back several times; in a large one many.
  """
  transfers = 2 * _TURNS
  latency = max(small - empty, 0.0) / transfers
  # A clock's tick more than nothing, lest it be without end.
  more = max(large - small, 1e-9) / transfers
  return latency, (_LARGE_BYTES - tf.float32.size) / more


def _empty_step(num_workers: int) -> list[tf.Operation]:
  """Something on each worker that cannot be known beforehand."""
  ops = []
  for worker in range(num_workers):
    with tf.device(servers.worker_device(worker)):
      ops.append(tf.identity(_variable(1)).op)
  return ops


def _there_and_back(num_bytes: int) -> tf.Operation:
  """A variable of worker 0 to worker 1 and back, several times."""
  with tf.device(servers.worker_device(0)):
    x = tf.identity(_variable(num_bytes // tf.float32.size))
  for worker in (1, 0) * _TURNS:
    with tf.device(servers.worker_device(worker)):
      x = tf.identity(x)
  return x.op


def _variable(length: int) -> tf.Tensor:
  return tf.get_variable(
    f'x{len(tf.global_variables())}', [length], tf.float32, use_resource=True
  ).read_value()


def _seconds(target: str, num_workers: int, num_bytes: int = 0) -> float:
  """The median time of a step, in which so many bytes go there and back."""
  with tf.Graph().as_default():
    ops = _empty_step(num_workers)
    if num_bytes:
      ops.append(_there_and_back(num_bytes))
    step = tf.group(ops)
    config = train_step.session_config(is_rewritten=False)
    with tf.Session(target, config=config) as session:
      session.run(tf.global_variables_initializer())
      run = session.make_callable(step)
      seconds = timeit.repeat(run, number=1, repeat=_WARM_UP_RUNS + _RUNS)
  return statistics.median(seconds[_WARM_UP_RUNS:])
