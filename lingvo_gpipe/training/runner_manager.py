# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's `RunnerManager`, made to run pipelines.

`RunnerManager` is Lingvo's, with runners that fail at once and with K CPU
devices in a process: `--run_locally=cpu --worker_split_size=K`. One process
needs one runner. Lingvo's controller exists to hold the checkpoints of
trainers elsewhere; here the trainer saves them itself, in a session of its own
that no port leads to.
"""

import functools
import queue
import threading

import lingvo.compat as tf
from lingvo import trainer as lingvo_trainer
from lingvo.core import py_utils

from lingvo_gpipe import cluster, cpu_devices, schedules
from lingvo_gpipe.engine import engine
from lingvo_gpipe.training import pipeline_params, run_observer, runners

tf.flags.DEFINE_integer(
  'max_steps',
  None,
  'Train to this step. Default: as the model says.',
  lower_bound=1,
)
tf.flags.DEFINE_integer(
  'micro_batches',
  None,
  'M: the micro-batches that a mini-batch is split into. Default: as the model '
  'says.',
  lower_bound=1,
)
tf.flags.DEFINE_enum(
  'schedule',
  None,
  schedules.SCHEDULE_NAMES,
  "Order of the pipeline's tasks. Default: as the model says.",
)
tf.flags.DEFINE_enum(
  'recompute',
  None,
  engine.RECOMPUTE_POLICIES,
  'Which micro-batches have their forward pass recomputed in the backward '
  'pass, to save memory. Default: as the model says.',
)

FLAGS = tf.flags.FLAGS

# Flags that set the Param of another name.
_PIPELINE_FLAGS = {
  'micro_batches': 'num_micro_batches',
  'schedule': 'schedule',
  'recompute': 'recompute',
}
_LOCAL_JOB = '/job:localhost'


class RunnerManager(lingvo_trainer.RunnerManager):
  """Creates and starts the runners of a model.

  Args:
    model: The model's key in Lingvo's registry, see `model_lookup`.
    trial: What follows the runs, see `run_observer`.
  """

  Controller = runners.Controller

  def __init__(self, model, trial=None):
    super().__init__(model)
    self._trial = trial or run_observer.ObservingTrial()
    # The step at which the training ends; known once its Params are.
    self.max_train_steps = None

  @property
  def Trainer(self):
    return super().Trainer if py_utils.IsEagerMode() else runners.Trainer

  @property
  def Evaler(self):
    return super().Evaler if py_utils.IsEagerMode() else runners.Evaler

  @property
  def Decoder(self):
    return super().Decoder if py_utils.IsEagerMode() else runners.Decoder

  def MaybeConfigRunLocally(self):
    """Sets the flags of a run in this process, on CPU devices."""
    if FLAGS.run_locally != 'cpu':
      super().MaybeConfigRunLocally()
      return
    FLAGS.job = FLAGS.job or 'trainer_client'
    if not FLAGS['mode'].present:
      FLAGS.mode = 'sync'
    FLAGS.task = 0
    for job in ('controller', 'worker', 'ps', 'input', 'evaler', 'decoder'):
      FLAGS[f'{job}_job'].value = _LOCAL_JOB
    for job in ('worker', 'ps', 'evaler', 'decoder'):
      FLAGS[f'{job}_replicas'].value = 1
      FLAGS[f'{job}_gpus'].value = 0
    FLAGS.input_replicas = 0
    FLAGS.worker_tpus = 0
    if 'controller' in FLAGS.job.split(','):
      # Two runners share variables, for which they need a common server.
      FLAGS.tf_master = tf.distribute.Server.create_local_server(
        config=cpu_devices.session_config(FLAGS.worker_split_size)
      ).target
    else:
      FLAGS.checkpoint_in_trainer_cpu = True
      FLAGS.tf_master = ''

  def UpdateClusterParamsFromFlags(self, cluster_params, job_name):
    """Sets Params of the cluster, as seen from `job_name`, from the flags."""
    super().UpdateClusterParamsFromFlags(cluster_params, job_name)
    if FLAGS.run_locally == 'cpu':
      cluster.use_cpu_devices(cluster_params, FLAGS.worker_split_size)

  def GetParamsForDataset(self, job_name, dataset_name):
    """Returns the model's Params with the flags' values set in them."""
    cfg = super().GetParamsForDataset(job_name, dataset_name)
    if FLAGS.max_steps is not None:
      for p in (cfg, cfg.task) if 'task' in cfg else (cfg,):
        p.train.max_steps = FLAGS.max_steps
    for flag, name in _PIPELINE_FLAGS.items():
      if FLAGS[flag].value is not None:
        pipeline_params.set_all(cfg, name, FLAGS[flag].value, flag)
    self.max_train_steps = cfg.train.max_steps
    return cfg

  def CreateRunners(self, jobs, logdir, trial=None):
    """Returns a list with the runner of each job."""
    return super().CreateRunners(jobs, logdir, trial or self._trial)

  def StartRunners(self, all_runners):
    """Runs `all_runners`; returns when all are done, or raises what one did."""
    if len(all_runners) == 1 and not all_runners[0].enqueue_ops:
      all_runners[0].Start()
      return
    loops = []
    for runner in all_runners:
      loops.append(runner.Start)
      for op in runner.enqueue_ops or []:
        loops.append(functools.partial(runner.StartEnqueueOp, op))
    _run_side_by_side(loops)


def _run_side_by_side(loops):
  """Calls each of `loops` in a thread; raises the first error at once."""
  outcomes = queue.SimpleQueue()

  def run(loop):
    try:
      loop()
      outcomes.put(None)
    except BaseException as error:
      outcomes.put(error)

  for loop in loops:
    # Daemons: what still runs after an error must not keep the process alive.
    threading.Thread(target=run, args=(loop,), daemon=True).start()
  for _ in loops:
    error = outcomes.get()
    if error is not None:
      raise error
