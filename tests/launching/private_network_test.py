# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import subprocess
import sys

import pytest

_SCRIPT = """
import pathlib
import socket
from lingvo_gpipe.launching import private_network
try:
  private_network.enter()
except OSError as error:
  print('not allowed', error)
  raise SystemExit
print([name for _, name in socket.if_nameindex()], private_network.is_private())
with socket.create_server(('127.0.0.1', 0)) as server:
  port = server.getsockname()[1]
  with socket.create_connection(('127.0.0.1', port), timeout=5):
    print(port)
    input()
"""


def test_only_children_reach_what_listens_in_it():
  # Not this process: there is no way back out of the network.
  with subprocess.Popen(
    [sys.executable, '-c', _SCRIPT],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    interfaces = process.stdout.readline()
    if interfaces.startswith('not allowed'):
      pytest.skip(interfaces)
    assert interfaces == "['lo'] True\n"
    port = int(process.stdout.readline())
    # Nobody listens on that port out here.
    table = pathlib.Path('/proc/net/tcp').read_text()
    assert f':{port:04X} 00000000:0000 0A' not in table
    process.communicate('\n')
