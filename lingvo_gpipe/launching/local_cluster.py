# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Workers, controller, trainer and evalers on one machine, as one run.

When a process of the training dies or hangs, all of them are ended and started
again, and the trainer goes on from the last checkpoint. So nothing is left of
a step that was under way: what the surviving workers hold is thrown away.

    worker 0..N-1 --+
    controller -----+-- one dies --> all end, all start again
    trainer --------+-- done, or a flag is wrong --> all end
    evaler ...      ---- one dies --> it alone starts again
"""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

_BEAT_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.1
# The exit status of a process whose flags or model are wrong, see `command`.
_REFUSED = 2
# That of a trainer that lost a worker, see `distributed.WorkerLostError`.
_WORKER_LOST = 3
# How long the trainer has to say itself what another process ended of.
_REFUSAL_SECONDS = 2.0
# How long a process may take to end by itself.
_GRACE_SECONDS = 15.0

# Of the environment: the workers' process ids, for a trainer that traces.
WORKER_PIDS = 'LINGVO_GPIPE_WORKER_PIDS'


def free_ports(count: int) -> list[int]:
  """Ports of the loopback interface that are not in use now."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for s in sockets:
      s.bind(('127.0.0.1', 0))
    return [s.getsockname()[1] for s in sockets]


class Child:
  """A forked process that is followed: log, heartbeat, memory and end.

  It is forked from a process that has imported everything, which saves the time
  and the memory of importing it again. That process must not have run
  TensorFlow before: threads do not survive a fork.

  Attributes:
    name: What to call it, 'worker 0' say.
    log_path: The file with its output.
    status: How it ended: its exit status, or minus the signal that killed it;
      None while it runs.
    own_peak_mib: Peak of its memory in MiB, beyond what it had when it was
      forked.
  """

  def __init__(
    self,
    name: str,
    body: Callable[[], int],
    log_path: str,
    *,
    on_terminal: bool = False,
  ) -> None:
    """Starts it.

    Args:
      body: What it does; returns its exit status.
      log_path: Its output is added to this file.
      on_terminal: Whether it has this process's output instead.
    """
    self.name = name
    self.log_path = log_path
    self.status: int | None = None
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    self._beats, beats = os.pipe()
    self.pid = os.fork()
    if not self.pid:
      os.close(self._beats)
      _run_child(body, parent, beats, None if on_terminal else log_path)
    os.close(beats)
    os.set_blocking(self._beats, False)
    self._last_beat = time.monotonic()
    self._first_mib = self._memory_mib('VmRSS')
    self.own_peak_mib = 0.0

  def _memory_mib(self, field: str) -> float:
    """A field of its status; 0 once it has ended."""
    with contextlib.suppress(OSError):
      text = pathlib.Path(f'/proc/{self.pid}/status').read_text()
      match = re.search(rf'^{field}:\s+(\d+) kB', text, re.MULTILINE)
      if match:
        return int(match[1]) / 1024
    return 0.0

  def poll(self) -> bool:
    """Looks after it; returns whether it still runs."""
    if self.status is not None:
      return False
    with contextlib.suppress(BlockingIOError):
      while os.read(self._beats, 4096):
        self._last_beat = time.monotonic()
    peak = self._memory_mib('VmHWM') - self._first_mib
    self.own_peak_mib = max(self.own_peak_mib, peak)
    return not self._wait(os.WNOHANG)

  def _wait(self, options: int = 0) -> bool:
    """Whether it has ended; waits for that unless `options` is WNOHANG."""
    pid, status = os.waitpid(self.pid, options)
    if pid:
      self.status = os.waitstatus_to_exitcode(status)
      os.close(self._beats)
    return bool(pid)

  def problem(self, hang_seconds: float) -> str:
    """In words: how it ended, or that it hangs; '' if it runs."""
    silence = time.monotonic() - self._last_beat
    if self.status is None:
      hangs = f'{self.name} hangs (silent for {silence:.0f} s)'
      return hangs if silence > hang_seconds else ''
    if self.status < 0:
      return f'{self.name} was killed by {signal.Signals(-self.status).name}'
    return f'{self.name} ended with status {self.status}'

  def signal(self, number: int) -> None:
    """Sends it a signal, if it runs."""
    if self.status is None:
      with contextlib.suppress(ProcessLookupError):
        os.kill(self.pid, number)

  def kill(self) -> None:
    """Ends it at once."""
    if self.poll():
      self.signal(signal.SIGKILL)
      self._wait()


def _run_child(
  body: Callable[[], int], parent: int, beats: int, log_path: str | None
) -> None:
  """Runs in the child; never returns."""

  def beat() -> None:
    with contextlib.suppress(OSError):
      while os.write(beats, b'.'):
        time.sleep(_BEAT_SECONDS)

  status = 1
  try:
    # It is killed when its parent ends, however that does.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It has ended already.
      os._exit(1)
    # A Ctrl-C is for the launcher, which then ends its children in order.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if log_path:
      flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
      descriptor = os.open(log_path, flags, 0o644)
      os.dup2(descriptor, 1)
      os.dup2(descriptor, 2)
    threading.Thread(target=beat, daemon=True).start()
    status = body()
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _running(processes: Iterable[Child]) -> bool:
  """Looks after all of `processes`; returns whether any runs."""
  return sum(process.poll() for process in processes) > 0


def _wait(processes: Iterable[Child], seconds: float) -> None:
  """Waits until all have ended, or the time is over."""
  processes, end = list(processes), time.monotonic() + seconds
  while _running(processes) and time.monotonic() < end:
    time.sleep(_POLL_SECONDS)


class Settings(Protocol):
  """What to start: flags of `launch_local`."""

  workers: int
  controller: bool
  evaluate: list[str]
  evaluation_devices: int
  max_restarts: int
  hang_seconds: float


class LocalCluster:
  """Runs the processes, see the module.

  Args:
    trainer_flags: For all of them.
    main: What a process does: takes a command line, returns its exit status.
    say: Is told what happens, a line.
  """

  def __init__(
    self,
    settings: Settings,
    trainer_flags: list[str],
    logdir: str,
    main: Callable[[list[str]], int],
    say: Callable[[str], None],
  ) -> None:
    self._settings = settings
    self._trainer_flags = trainer_flags
    self._logdir = logdir
    self._main = main
    self._say = say
    self._training: dict[str, Child] = {}
    self._evaluation: dict[str, Child] = {}
    self._peaks: dict[str, float] = {}

  def run(self) -> int:
    """Runs until the training is done; returns the exit status."""
    try:
      self._start_training()
      for job in self._settings.evaluate:
        self._start_evaluation(job)
      status = self._follow()
      if status == 0:
        self._finish()
      return status
    except KeyboardInterrupt:
      self._say('Interrupted: ending all processes ...')
      trainer = [p for n, p in self._training.items() if n == 'trainer']
      for process in trainer:
        process.signal(signal.SIGINT)
      _wait(trainer, _GRACE_SECONDS)
      return 130
    finally:
      self._end(self._evaluation.values())
      self._end(reversed(self._training.values()))
      if self._peaks:
        peaks = ', '.join(f'{n} {mib:.0f}' for n, mib in self._peaks.items())
        self._say(f'Peak memory in MiB, without what imports take: {peaks}.')

  # -- Starting.

  def _start(self, name: str, argv: list[str], *, on_terminal: bool) -> Child:
    log = f'{self._logdir}/log_{name.replace(" ", "_")}.txt'
    command = [name, *self._trainer_flags, *argv, '--mode=sync']
    return Child(
      name, lambda: self._main(command), log, on_terminal=on_terminal
    )

  def _start_training(self) -> None:
    jobs = {'worker': self._settings.workers, 'trainer_client': 1}
    if self._settings.controller:
      jobs['controller'] = 1
    # New ports each time: the old ones may still be taken.
    ports = iter(free_ports(sum(jobs.values())))
    spec = '@'.join(
      f'{job}=' + ','.join(f'127.0.0.1:{next(ports)}' for _ in range(count))
      for job, count in jobs.items()
    )
    # Workers first, since the others wait for them.
    self._training = {}
    for job, count in jobs.items():
      for task in range(count):
        name = {'trainer_client': 'trainer', 'worker': f'worker {task}'}.get(
          job, job
        )
        argv = [f'--cluster_spec={spec}', f'--job={job}', f'--task={task}']
        argv.append('--checkpoint_in_trainer_cpu')
        on_terminal = job == 'trainer_client'
        self._training[name] = self._start(name, argv, on_terminal=on_terminal)
      pids = [str(worker.pid) for worker in self._training.values()]
      os.environ[WORKER_PIDS] = ' '.join(pids)

  def _start_evaluation(self, job: str) -> None:
    devices = self._settings.evaluation_devices
    argv = [
      f'--job={job}',
      '--run_locally=cpu',
      f'--worker_split_size={devices}',
      f'--worker_cpus={devices}',
    ]
    self._evaluation[job] = self._start(job, argv, on_terminal=True)

  # -- Following.

  def _follow(self) -> int:
    """Follows all until the training is over; returns the exit status."""
    most = self._settings.max_restarts
    restarts = 0
    while True:
      time.sleep(_POLL_SECONDS)
      self._follow_evaluation()
      status, problem = self._follow_training()
      if status is not None:
        return status
      if not problem:
        continue
      if restarts == most:
        self._say(f'{problem}; given up after {restarts} restart(s).')
        return 1
      restarts += 1
      # The workers last: the trainer need not say that they are gone.
      self._end(reversed(self._training.values()))
      self._say(
        f'{problem}; all start again from the last checkpoint (restart '
        f'{restarts} of {most}).'
      )
      self._start_training()

  def _follow_training(self) -> tuple[int | None, str]:
    """Returns the exit status if it is over, and what is wrong, '' if nothing.

    A worker that died comes before the trainer, which dies of that. A mistake
    of the user would be there again: no restart.
    """
    trainer = self._training['trainer']
    problems = []
    for process in self._training.values():
      if process.poll() or (process.status and process is not trainer):
        problems.append(process.problem(self._settings.hang_seconds))
      if process.status == _REFUSED and process is not trainer:
        return self._refused(process), ''
    problem = next(filter(None, problems), '')
    if trainer.status is None:
      return None, problem
    if trainer.status == _WORKER_LOST or trainer.status < 0:
      return None, problem or trainer.problem(0)
    return trainer.status, problem

  def _refused(self, process: Child) -> int:
    """Sees that the user is told what `process` refused; returns the status."""
    trainer = self._training['trainer']
    _wait([trainer], _REFUSAL_SECONDS)
    if trainer.status != _REFUSED:
      log = pathlib.Path(process.log_path).read_text(errors='replace')
      reason = ([''] + [line for line in log.splitlines() if line.strip()])[-1]
      self._say(f'{process.problem(0)}: {reason}')
    return _REFUSED

  def _follow_evaluation(self) -> None:
    for job, process in list(self._evaluation.items()):
      runs = process.poll()
      problem = process.problem(self._settings.hang_seconds)
      if runs and not problem:
        continue
      self._end([process])
      del self._evaluation[job]
      if runs or (process.status or 0) < 0:
        self._say(f'{problem}; it starts again.')
        self._start_evaluation(job)
      elif process.status:
        # Its own fault, so it would do that again.
        self._say(f'{problem}; continuing without it.')

  # -- Ending.

  def _finish(self) -> None:
    """After the training: waits for those that look at its last checkpoint."""
    controller = [p for n, p in self._training.items() if n == 'controller']
    _wait(controller, _GRACE_SECONDS)
    while _running(self._evaluation.values()):
      time.sleep(_POLL_SECONDS)
      self._follow_evaluation()

  def _end(self, processes: Iterable[Child]) -> None:
    for process in processes:
      process.kill()
      before = self._peaks.get(process.name, 0.0)
      self._peaks[process.name] = max(before, process.own_peak_mib)
