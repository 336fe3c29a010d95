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
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFF_LOOPBACK = 8


def _unshare(flags: int) -> None:
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.unshare(flags):
    error = ctypes.get_errno()
    raise OSError(error, os.strerror(error))


def _map_user(uid: int, gid: int) -> None:
  """Keeps the user's own ids in the new user namespace."""
  own = pathlib.Path('/proc/self')
  # Without this an unprivileged process may not map its group.
  (own / 'setgroups').write_text('deny')
  (own / 'uid_map').write_text(f'{uid} {uid} 1')
  (own / 'gid_map').write_text(f'{gid} {gid} 1')


def _interface(call: int, name: str, flags: int = 0) -> int:
  """Reads or sets the flags of a network interface; returns them."""
  request = struct.pack('16sH14x', name.encode(), flags)
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    answer = fcntl.ioctl(sock, call, request)
  return int(struct.unpack_from('H', answer, 16)[0])


def is_private() -> bool:
  """Whether this process's network has no interface but loopback."""
  all_flags = [
    _interface(_SIOCGIFFLAGS, name) for _, name in socket.if_nameindex()
  ]
  return all(
    flags & _IFF_LOOPBACK or not flags & _IFF_UP for flags in all_flags
  )


def enter() -> None:
  """Moves this process into a network of its own, with loopback only.

  It must have one thread. Children that it starts from now on are there too.

  Raises:
    OSError: if the system does not allow it; nothing has changed then, or only
      loopback is missing.
  """
  uid, gid = os.getuid(), os.getgid()
  try:
    _unshare(_CLONE_NEWNET)
  except PermissionError:
    # Not as root: a user namespace gives the right to.
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _map_user(uid, gid)
  flags = _interface(_SIOCGIFFLAGS, 'lo')
  _interface(_SIOCSIFFLAGS, 'lo', flags | _IFF_UP)
