# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lets Lingvo's PipeliningLayer run over several processes, to be measured.

Its channels say that every device is in its 0th incarnation, which holds within
one process only: a server refuses to send to a device of another one.
"""

import contextlib
from collections.abc import Iterator, Mapping

import lingvo.compat as tf
from lingvo.core import sendrecv


def _incarnations(target: str) -> dict[str, int]:
  """By device, the incarnation as an op's attribute has it, signed."""
  with tf.Graph().as_default(), tf.compat.v1.Session(target) as session:
    devices = session.list_devices()
  return {
    device.name: (device.incarnation + 2**63) % 2**64 - 2**63
    for device in devices
  }


def _channel_class(incarnations: Mapping[str, int]) -> type[sendrecv.Channel]:
  class ProcessChannel(sendrecv.Channel):
    """A channel whose ends may lie in different processes."""

    def _Ends(self) -> dict[str, object]:
      return {
        'tensor_name': self._name,
        'send_device': self._send_device,
        'send_device_incarnation': incarnations[self._send_device],
        'recv_device': self._recv_device,
      }

    def Send(self, tensor):
      return tf.raw_ops.Send(tensor=tensor, **self._Ends())

    def Recv(self):
      received = tf.raw_ops.Recv(tensor_type=self._dtype, **self._Ends())
      received.set_shape(self._shape)
      return received

  return ProcessChannel


@contextlib.contextmanager
def known_to_channels(target: str) -> Iterator[None]:
  """Tells Lingvo's channels which processes there are, while the block runs.

  Args:
    target: The target of sessions that use the processes.
  """
  own = sendrecv.Channel
  sendrecv.Channel = _channel_class(_incarnations(target))
  try:
    yield
  finally:
    sendrecv.Channel = own
