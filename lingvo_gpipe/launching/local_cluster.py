# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Workers, controller, trainer and evalers on one machine, as one run.

All of the training start again if one of them dies or hangs, from the last
checkpoint: workers that survive hold parts of a step that was under way.

    worker 0..N-1 --+
    controller -----+-- one dies --> all end, all start again
    trainer --------+-- done, or a flag is wrong --> all end
    evaler ...      ---- one dies --> it alone starts again
"""

import argparse
import contextlib
import ctypes
import multiprocessing
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

_PR_SET_PDEATHSIG = 1
_BEAT_SECONDS = 1.0
_POLL_SECONDS = 0.1
_REFUSAL_SECONDS = 5.0  # For the trainer to refuse what a worker has refused.
_GRACE_SECONDS = 15.0  # For a process to end by itself.
# Exit statuses: flags or model are wrong, `distributed.WorkerLostError`.
_REFUSED, _WORKER_LOST = 2, 3

# Of the environment: the workers' process ids, for a trainer that traces.
WORKER_PIDS = 'LINGVO_GPIPE_WORKER_PIDS'


def free_ports(count: int) -> list[int]:
  """Ports of the loopback interface that are not in use now."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for s in sockets:
      s.bind(('127.0.0.1', 0))
    return [s.getsockname()[1] for s in sockets]


class Child(multiprocessing.context.ForkProcess):
  """A forked process that is followed: log, heartbeat, memory and end.

  This process has imported everything, so that none does it again. It must not
  have run TensorFlow: threads do not survive a fork. `own_peak_mib` is the peak
  of its memory, beyond what it had at its start.
  """

  def __init__(
    self,
    name: str,
    body: Callable[[], int],
    log_path: str,
    *,
    on_terminal: bool = False,
  ) -> None:
    """Starts it; `on_terminal` with this process's output, without a log."""
    super().__init__(name=name)
    self._body = body
    self._log_path = log_path
    self._on_terminal = on_terminal
    self._last_beat = multiprocessing.RawValue('d', time.monotonic())
    self.own_peak_mib = 0.0
    self.start()
    self._first_mib = self._memory_mib('VmRSS')

  def run(self) -> None:
    status = 1
    try:
      # It is killed when its parent ends, however that does.
      ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
      parent = multiprocessing.parent_process()
      if parent and os.getppid() != parent.pid:  # It has ended already.
        os._exit(1)
      # A Ctrl-C is for the launcher, which then ends its children in order.
      os.setpgid(0, 0)
      signal.signal(signal.SIGINT, signal.default_int_handler)
      signal.signal(signal.SIGTERM, signal.SIG_DFL)
      if not self._on_terminal:
        with open(self._log_path, 'ab') as log:
          os.dup2(log.fileno(), 1)
          os.dup2(log.fileno(), 2)
      threading.Thread(target=self._beat, daemon=True).start()
      status = self._body()
    except BaseException:
      traceback.print_exc()
    finally:
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(status)

  def _beat(self) -> None:
    while True:
      self._last_beat.value = time.monotonic()
      time.sleep(_BEAT_SECONDS)

  def _memory_mib(self, field: str) -> float:
    with contextlib.suppress(OSError):
      text = pathlib.Path(f'/proc/{self.pid}/status').read_text()
      match = re.search(rf'^{field}:\s+(\d+) kB', text, re.MULTILINE)
      if match:
        return int(match[1]) / 1024
    return 0.0

  def poll(self) -> bool:
    """Looks after it; returns whether it still runs."""
    peak = self._memory_mib('VmHWM') - self._first_mib
    self.own_peak_mib = max(self.own_peak_mib, peak)
    return self.is_alive()

  def last_line(self) -> str:
    text = pathlib.Path(self._log_path).read_text(errors='replace')
    return text.strip().rpartition('\n')[2]

  def problem(self, hang_seconds: float = 0.0) -> str:
    """How it ended, or that it hangs; '' if it runs."""
    status = self.exitcode
    if status is None:
      silence = time.monotonic() - self._last_beat.value
      hangs = f'{self.name} hangs (silent for {silence:.0f} s)'
      return hangs if silence > hang_seconds else ''
    if status < 0:
      return f'{self.name} was killed by {signal.Signals(-status).name}'
    return f'{self.name} ended with status {status}'

  def end(self) -> None:
    self.poll()
    self.kill()
    self.join()


class LocalCluster:
  """Runs the processes, see the module.

  `main` takes a command line and returns its exit status; `say` is told what
  happens, a line at a time.
  """

  def __init__(
    self,
    settings: argparse.Namespace,
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
    """Returns the exit status when the training is done."""
    try:
      self._start_training()
      for job in self._settings.evaluate:
        self._start_evaluation(job)
      status = self._follow()
      if status == 0:
        # Those that look at the last checkpoint.
        _wait(self._training, 'controller')
        while any(process.poll() for process in self._evaluation.values()):
          time.sleep(_POLL_SECONDS)
          self._follow_evaluation()
      return status
    except KeyboardInterrupt:
      self._say('Interrupted: ending all processes ...')
      trainer = self._training.get('trainer')
      if trainer and trainer.pid and trainer.poll():
        os.kill(trainer.pid, signal.SIGINT)
        _wait(self._training, 'trainer')
      return 130
    finally:
      self._end(self._evaluation.values())
      self._end(reversed(self._training.values()))
      if self._peaks:
        peaks = ', '.join(f'{n} {mib:.0f}' for n, mib in self._peaks.items())
        self._say(f'Peak memory in MiB, without what imports take: {peaks}.')

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
        names = {'trainer_client': 'trainer', 'worker': f'worker {task}'}
        name = names.get(job, job)
        argv = [f'--cluster_spec={spec}', f'--job={job}', f'--task={task}']
        argv.append('--checkpoint_in_trainer_cpu')
        self._training[name] = self._start(
          name, argv, on_terminal=job == 'trainer_client'
        )
      pids = [str(worker.pid) for worker in self._training.values()]
      os.environ[WORKER_PIDS] = ' '.join(pids)

  def _start_evaluation(self, job: str) -> None:
    devices = self._settings.evaluation_devices
    argv = [f'--job={job}', '--run_locally=cpu']
    argv += [f'--worker_split_size={devices}', f'--worker_cpus={devices}']
    self._evaluation[job] = self._start(job, argv, on_terminal=True)

  def _end(self, processes: Iterable[Child]) -> None:
    for process in processes:
      process.end()
      before = self._peaks.get(process.name, 0.0)
      self._peaks[process.name] = max(before, process.own_peak_mib)

  def _follow(self) -> int:
    restarts, most = 0, self._settings.max_restarts
    while True:
      time.sleep(_POLL_SECONDS)
      self._follow_evaluation()
      status, problem = self._follow_training()
      if status is not None:
        return status
      if problem and restarts == most:
        self._say(f'{problem}; given up after {most} restart(s).')
        return 1
      if problem:
        restarts += 1
        # The workers last: the trainer need not say that they are gone.
        self._end(reversed(self._training.values()))
        self._say(
          f'{problem}; all start again from the last checkpoint (restart '
          f'{restarts} of {most}).'
        )
        self._start_training()

  def _follow_training(self) -> tuple[int | None, str]:
    """Returns the exit status if it is over, and what is wrong, or ''.

    A worker that died comes before the trainer, which dies of that. A mistake
    of the user is no reason to start again.
    """
    trainer = self._training['trainer']
    problem = ''
    for process in self._training.values():
      if process.poll() or (process.exitcode and process is not trainer):
        problem = problem or process.problem(self._settings.hang_seconds)
      if process.exitcode == _REFUSED and process is not trainer:
        _wait(self._training, 'trainer', _REFUSAL_SECONDS)
        if trainer.exitcode != _REFUSED:  # Then it has said why.
          self._say(f'{process.problem()}: {process.last_line()}')
        return _REFUSED, ''
    if trainer.exitcode is None:
      return None, problem
    if trainer.exitcode == _WORKER_LOST or trainer.exitcode < 0:
      return None, problem or trainer.problem()
    return trainer.exitcode, problem

  def _follow_evaluation(self) -> None:
    for job, process in list(self._evaluation.items()):
      runs = process.poll()
      problem = process.problem(self._settings.hang_seconds)
      if runs and not problem:
        continue
      self._end([process])
      del self._evaluation[job]
      if runs or (process.exitcode or 0) < 0:
        self._say(f'{problem}; it starts again.')
        self._start_evaluation(job)
      elif process.exitcode:
        # Its own fault, so it would do that again.
        self._say(f'{problem}; continuing without it.')


def _wait(
  processes: dict[str, Child], name: str, seconds: float = _GRACE_SECONDS
) -> None:
  end = time.monotonic() + seconds
  while name in processes and processes[name].poll():
    if time.monotonic() > end:
      return
    time.sleep(_POLL_SECONDS)
