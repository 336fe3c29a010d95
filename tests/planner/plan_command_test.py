# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json
import re

import pytest

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.planner import plan_command, recommend, registered

_DIGITS = 'image.digits.AmoebaNetD'


def test_prints_a_table_for_each_number_of_cells(capsys):
  argv = [_DIGITS, '--num_partitions', '2,3', '--as_registered']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  assert 'in 7 layers' in text
  assert 'K = 2 cells on 2 devices, cut by given' in text
  assert 'K = 3 cells on 3 devices' in text
  assert 'stem .. reduction_0 (3)' in text
  assert '1f1b, M = 8, recompute always: imbalance' in text
  assert 'the peak memory of this process' in text
  # Flags win over the model's Params.
  argv = [_DIGITS, '--num_partitions=2', '--balance=params']
  argv += ['--num_micro_batches=5', '--schedule=gpipe']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  assert 'K = 2 cells on 2 devices, cut by params' in text
  assert 'gpipe, M = 5' in text


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'give a model, such as'),
    ([_DIGITS, '--model=other'], 'are two models'),
    ([_DIGITS, '--num_partitions=2,x'], "'2,x' is not a list"),
    ([_DIGITS, '--device_speed=fast'], "--device_speed: 'fast' is not a speed"),
    ([_DIGITS, '--sweep=a.txt'], 'files that end in .md'),
    ([_DIGITS, '--sweep', '--largest'], 'not both'),
    ([_DIGITS, '--picture=a.svg'], 'file that ends in .png'),
    ([_DIGITS, '--sweep', '--picture=a.png'], 'draws one plan'),
    ([_DIGITS, '--as_registered', '--recompute=never'], '--as_registered'),
    ([_DIGITS, '--lengths=7'], "'7' is not a list of multiples of 3"),
  ],
)
def test_wrong_flags_end_with_the_usage_and_status_2(argv, message, capsys):
  with pytest.raises(SystemExit) as raised:
    plan_command.main(argv)
  assert raised.value.code == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([_DIGITS, '--schedule=zigzag'], "no schedule 'zigzag'; it must be one of"),
    (['image.digits.AmoebaNet'], 'Nearest: image.digits.AmoebaNet'),
    ([_DIGITS, '--num_partitions=9'], '7 layers cannot be cut into 9 cells'),
    ([_DIGITS, '--balance=flop'], "balance is 'flop'"),
    ([_DIGITS, '--device_memory=1GiB'], 'without input_shapes'),
    ([_DIGITS, '--batch_size=64'], '--batch_size needs input_shapes'),
    ([_DIGITS, '--device_speed=1TFLOPS'], "the costs are 'given'"),
    ([_DIGITS, '--link_speed=1GB/s'], 'give --device_speed'),
    ([_DIGITS, '--num_partitions=3', '--devices=2'], 'not a multiple of --dev'),
    ([_DIGITS, '--recompute=fit'], 'device_memory is not set'),
    ([_DIGITS, '--largest'], '--largest needs --device_memory'),
  ],
)
def test_mistakes_end_with_a_line_and_status_2(argv, message, capsys):
  assert plan_command.main(argv) == 2
  assert message in capsys.readouterr().err


def test_what_is_recommended_is_what_the_layer_does(capsys):
  name = 'lm.paper.Transformer13'
  argv = [name, '--devices=3', '--device_memory=8GiB', '--schedule=1f1b']
  argv += ['--num_micro_batches=32', '--device_speed=45TFLOPS']
  argv += ['--link_speed=12GB/s', '--link_latency=5us']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  # Its task says the shapes of side inputs and targets.
  assert 'in 15 layers, mini-batch of 32' in text
  assert ' cells on 3 devices, cut by flops' in text
  assert ' s |' in text  # Seconds.
  chosen = re.search(r"recompute=(fit) with device_memory='(.*?)'\. (.*)", text)
  assert chosen
  assert "'always' would take" in chosen[3]
  params = registered.layer_params(name).Set(
    recompute=chosen[1], device_memory=chosen[2], schedule='1f1b'
  )
  plan = pipeline_plan.make_plan(params.Set(num_partitions=3), 3)
  assert plan.partition.spec.kept
  assert plan.table().to_text() in text


def test_a_picture_shows_the_memory_over_a_step(tmp_path, capsys):
  pytest.importorskip('matplotlib')
  path = tmp_path / 'memory.png'
  argv = [_DIGITS, '--num_partitions=3', '--as_registered']
  assert plan_command.main([*argv, f'--picture={path}']) == 0
  assert f'Written: {path}' in capsys.readouterr().out
  assert path.read_bytes().startswith(b'\x89PNG')


def test_a_sweep_writes_the_files_that_are_named(tmp_path, capsys):
  files = [tmp_path / 'plan.md', tmp_path / 'plan.json']
  argv = [_DIGITS, '--num_partitions=1,2', '--balance=params']
  assert plan_command.main([*argv, f'--sweep={",".join(map(str, files))}']) == 0
  assert 'the best way for each number of' in capsys.readouterr().out
  markdown, record = (file.read_text() for file in files)
  assert _DIGITS in markdown
  assert len(json.loads(record)['settings']) == 2


def test_the_longest_transformer_that_fits(capsys):
  argv = ['--model=lm.paper.Transformer103', '--devices=2', '--largest']
  argv += ['--device_memory=24GiB', '--schedule=1f1b', '--recompute=always']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  assert int(re.search(r'Transformer-(\d+) has most', text)[1]) > 13


def test_listed_layers_are_kept_where_the_way_is_as_listed():
  model = 'lm.paper.Transformer3'
  params = registered.layer_params(model).Set(
    input_shapes='',
    balance='params',
    splits=[],
    recompute=['layer_1'],
    num_micro_batches=2,
  )
  work = registered.workload(model, params)
  ways = recommend.settings(work, 2, micro_batches=[2], schedules=['gpipe'])
  [listed] = [way for way in ways if way.recompute == work.recompute]
  assert work.spec(listed).kept == {'layer_1'}
  assert work.spec(listed).recompute == 'always'
