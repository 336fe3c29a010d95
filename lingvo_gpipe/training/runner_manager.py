# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's `RunnerManager`, made to run pipelines.

A run in one process has K devices (`--run_locally=cpu --worker_split_size=K`)
and one runner: the trainer saves checkpoints itself, in a session of its own
that no port leads to. Pipelines may span workers (`--cluster_spec`).
"""

import functools
import os
import queue
import threading

import lingvo.compat as tf
from lingvo import datasets
from lingvo import trainer as lingvo_trainer

from lingvo_gpipe import cluster
from lingvo_gpipe.training import (
  devices,
  distributed,
  listeners,
  model_lookup,
  model_pipelines,
  runners,
  trainer_flags,
  user_error,
)

FLAGS = tf.flags.FLAGS

# Flags that set the Param of another name.
_PIPELINE_FLAGS = {
  'micro_batches': 'num_micro_batches',
  'schedule': 'schedule',
  'recompute': 'recompute',
  'device_memory': 'device_memory',
}


class RunnerManager(lingvo_trainer.RunnerManager):
  """Creates and starts the runners of a model.

  The user knows --worker_split_size as `devices_flag`. `max_train_steps` is the
  step at which the training ends, once the Params are made.
  """

  Controller = runners.Controller
  Trainer = runners.Trainer
  Evaler = runners.Evaler
  Decoder = runners.Decoder

  def __init__(self, model, trial=None, devices_flag='worker_split_size'):
    super().__init__(model)
    model_lookup.explain_overrides()
    self._devices_flag = devices_flag
    self._trial = trial or listeners.ObservingTrial()
    self.max_train_steps = None
    self._cluster_spec = None
    self._watch = None

  def MaybeConfigRunLocally(self):
    if FLAGS.run_locally not in ('cpu', 'gpu'):
      super().MaybeConfigRunLocally()
      if FLAGS.run_locally:
        distributed.warn_of_open_port(FLAGS.tf_master)
      return
    jobs = FLAGS.job.split(',')
    jobs = [job for job in jobs if job not in ('', 'controller')]
    FLAGS.job = ','.join(jobs) or 'trainer_client'
    if not FLAGS['mode'].present:
      FLAGS.mode = 'sync'
    FLAGS.task = 0
    if 'trainer_client' in FLAGS.job:
      self._MatchDevices()
    for job in ('controller', 'worker', 'ps', 'input', 'evaler', 'decoder'):
      FLAGS[f'{job}_job'].value = '/job:localhost'
    gpus = 0
    if FLAGS.run_locally == 'gpu':
      gpus = FLAGS.worker_gpus or FLAGS.worker_split_size
      devices.check_gpus(gpus, '--run_locally=gpu')
    for job in ('worker', 'ps', 'evaler', 'decoder'):
      FLAGS[f'{job}_replicas'].value = 1
      FLAGS[f'{job}_gpus'].value = gpus
    FLAGS.input_replicas = 0
    FLAGS.worker_tpus = 0
    FLAGS.checkpoint_in_trainer_cpu = True
    FLAGS.tf_master = ''

  def _num_cpus(self):
    default = FLAGS.worker_split_size if FLAGS.run_locally else 1
    return FLAGS.worker_cpus or default

  def _MatchDevices(self):
    cfg = self.model_registry.GetParams(self._model_name, 'Train')
    fixed = devices.fixed_pipelines(cfg, FLAGS.schedule)
    if fixed and FLAGS['worker_split_size'].using_default_value:
      FLAGS.worker_split_size = max(p.num_devices for p in fixed)
      each, flag = FLAGS.worker_gpus, 'worker_gpus'
      if not each:
        each, flag = self._num_cpus(), 'worker_cpus'
      workers = len(self._cluster_spec['worker']) if self._cluster_spec else 1
      given = f'{workers} worker(s) with --{flag}={each}'
      devices.check(fixed, workers * each, given)
    self._CheckDevices(fixed)

  def _CheckDevices(self, pipelines):
    size = FLAGS.worker_split_size
    if not FLAGS['worker_split_size'].using_default_value:
      devices.check(pipelines, size, f'--{self._devices_flag}={size}')

  def MaybeConfigRunDistributed(self):
    if not FLAGS.cluster_spec:
      return
    spec = distributed.parse_cluster_spec(FLAGS.cluster_spec)
    distributed.check_place(spec, FLAGS.job, FLAGS.task)
    if not FLAGS['mode'].present:
      FLAGS.mode = 'sync'
    tf_master = FLAGS.tf_master
    super().MaybeConfigRunDistributed()
    if FLAGS.job == 'trainer_client' and (tf_master or FLAGS.job in spec):
      FLAGS.tf_master = tf_master  # Lingvo has set it to the worker's.
    self._cluster_spec = spec
    if FLAGS.job in distributed.DRIVERS:
      self._MatchDevices()
      # Raises what is wrong with flags before anybody waits for workers.
      self.UpdateClusterParamsFromFlags(
        cluster.PipelineCluster.Params(), FLAGS.job
      )

  def MaybeLaunchTensorFlow(self):
    """Starts this process's server, and waits for the workers' servers."""
    if self._cluster_spec is None or FLAGS.tpu or FLAGS.use_eager:
      super().MaybeLaunchTensorFlow()
      return
    spec, job = self._cluster_spec, FLAGS.job
    if job in spec:
      self._tf_server = distributed.start_server(
        spec, job, FLAGS.task, *self._server_devices(job)
      )
      FLAGS.tf_master = FLAGS.tf_master or self._tf_server.target
    if job in distributed.DRIVERS:
      self._watch = distributed.WorkerWatch(spec['worker'])
      self._watch.wait_until_up(FLAGS.worker_wait_seconds)

  def _server_devices(self, job):
    kind = job.partition('_')[0]
    if kind not in ('worker', 'evaler', 'decoder'):
      return 1, 0
    gpus = FLAGS[f'{kind}_gpus'].value
    if kind != 'worker':
      return FLAGS.worker_split_size, gpus
    devices.check_gpus(gpus, f'--worker_gpus={gpus}')
    return self._num_cpus(), gpus

  def UpdateClusterParamsFromFlags(self, cluster_params, job_name):
    super().UpdateClusterParamsFromFlags(cluster_params, job_name)
    if FLAGS.tpu or FLAGS.xla_device == 'tpu':
      return
    for job in ('evaler', 'decoder'):
      cluster_params.Get(job).devices_per_split = FLAGS.worker_split_size
    if not cluster_params.worker.gpus_per_replica:
      cluster.use_cpu_devices(
        cluster_params, self._num_cpus(), FLAGS.worker_split_size
      )
    if job_name in distributed.DRIVERS:
      try:
        cluster.check_splits(cluster_params.worker)
      except ValueError as error:
        raise user_error.UserError(str(error)) from error

  def GetParamsForDataset(self, job_name, dataset_name):
    cfg = super().GetParamsForDataset(job_name, dataset_name)
    if FLAGS.max_steps is not None:
      for p in (cfg, cfg.task) if 'task' in cfg else (cfg,):
        p.train.max_steps = FLAGS.max_steps
    for flag, name in _PIPELINE_FLAGS.items():
      if FLAGS[flag].value is not None:
        model_pipelines.set_all(cfg, name, FLAGS[flag].value, flag)
    self.max_train_steps = cfg.train.max_steps
    return cfg

  def CreateRunners(self, jobs, logdir, trial=None):
    return super().CreateRunners(jobs, logdir, trial or self._trial)

  def _CreateRunner(self, job, model_task_name, logdir, tf_master, trial):
    if job in distributed.SERVING and self._tf_server:
      return distributed.ServingRunner(self._tf_server)
    runner = super()._CreateRunner(
      job, model_task_name, logdir, tf_master, trial
    )
    if isinstance(runner, runners.Trainer):
      self._CheckDevices(devices.built_pipelines(runner.model))
      devices.check_buckets(runner.model)
    if job == 'trainer_client' and self._watch is not None:
      print(devices.weights_text(runner._graph), flush=True)
    return runner

  def StartRunners(self, all_runners):
    """Runs `all_runners`; returns when all are done, or raises what one did."""
    loops = []
    for runner in all_runners:
      loops.append(runner.Start)
      for op in runner.enqueue_ops or []:
        loops.append(functools.partial(runner.StartEnqueueOp, op))
    try:
      if len(loops) == 1 and self._watch is None:
        loops[0]()
      else:
        _run_side_by_side(loops, self._watch)
    except tf.errors.OpError as error:
      if self._watch is None:
        raise
      raise self._watch.explain(error) from error
    finally:
      for runner in all_runners:
        writer = getattr(runner, '_summary_writer', None)
        if writer is not None:
          writer.flush()

  def RunEvalerOnce(self):
    evaler = self._CreateRunner(
      f'evaler_{trainer_flags.dataset_of(FLAGS.job)}',
      FLAGS.model_task_name,
      FLAGS.logdir,
      FLAGS.tf_master,
      self._trial,
    )
    evaler.EvalCheckpoint(int(FLAGS.job.rpartition('@')[2]))

  # Lingvo's modes that train nothing say only in the log what they wrote.

  def InspectParams(self):
    """Writes the Params of all datasets or the flag's; UserError if unknown."""
    names = datasets.GetDatasets(self.model_registry.GetClass(self._model_name))
    chosen = FLAGS.inspect_params_dataset_name or names
    for name in chosen:
      if name not in names:
        flag = 'inspect_params_dataset_name'
        raise user_error.unknown(flag, name, 'dataset', name, names)
    super().InspectParams()
    for name in chosen:
      file = os.path.join(FLAGS.logdir, f'{name.lower()}-params.txt')
      print(f'Params for {name}: {file}', flush=True)

  def WriteInferenceGraph(self, cfg=None, prune_graph=True):
    graph = super().WriteInferenceGraph(cfg, prune_graph)
    if graph is None:
      raise user_error.UserError(
        '--mode=write_inference_graph: nothing is written, the model has no '
        'inference graph; its task would have to define Inference().'
      )
    directory = os.path.join(FLAGS.logdir, 'inference_graphs')
    names = sorted(tf.io.gfile.listdir(directory))
    files = [os.path.join(directory, name) for name in names]
    for file in files + (FLAGS.graph_def_filename or []):
      print(f'Inference graph: {file}', flush=True)
    return graph


def _run_side_by_side(loops, watch=None):
  """Calls each of `loops` in a thread; raises the first error at once."""
  outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

  def run(loop):
    try:
      loop()
      outcomes.put(None)
    except BaseException as error:
      outcomes.put(error)

  if watch is not None:
    watch.watch(outcomes.put)
  for loop in loops:
    # Daemons: what still runs after an error must not keep the process alive.
    threading.Thread(target=run, args=(loop,), daemon=True).start()
  try:
    for _ in loops:
      error = outcomes.get()
      if error is not None:
        raise error
  finally:
    if watch is not None:
      watch.stop()
