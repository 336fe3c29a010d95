# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A network that this process shares only with its children.

TensorFlow's servers have no authentication, and listen on every network
interface of the machine. In a network namespace of its own (Linux) there is
only a loopback interface, which neither other machines nor other users reach:

    other machines --X--+
    other users    --X--+-- [ launcher, trainer, workers on 127.0.0.1 ]
"""

import ctypes
import fcntl
import os
import pathlib
import socket
import struct

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_entered = False


def is_private() -> bool:
  """Whether this process, or one that it was forked from, has entered it."""
  return _entered


def enter() -> None:
  """Moves this process, which has one thread, and its later children there.

  OSError if the system does not allow it; loopback may be missing then.
  """
  global _entered
  uid, gid = os.getuid(), os.getgid()
  try:
    _unshare(_CLONE_NEWNET)
  except PermissionError:
    # Not as root: a user namespace gives the right to.
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    own = pathlib.Path('/proc/self')
    # Without this an unprivileged process may not map its group.
    (own / 'setgroups').write_text('deny')
    (own / 'uid_map').write_text(f'{uid} {uid} 1')
    (own / 'gid_map').write_text(f'{gid} {gid} 1')
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    request = struct.pack('16sH14x', b'lo', _IFF_UP)
    fcntl.ioctl(sock, _SIOCSIFFLAGS, request)
  _entered = True


def _unshare(flags: int) -> None:
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.unshare(flags):
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))
