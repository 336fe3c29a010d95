# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers costed by the names in their Params."""

from lingvo_gpipe.costing import layer_profile, measured_costs, weights


def profiles(layers, input_specs, named_specs=None, **training):
  names = [params.name for params in layers]
  return layer_profile.profile_layers(
    layers, names, input_specs, weights.Training(**training), named_specs
  )


def flops_costs(layers, input_specs, **kwargs):
  return [profile.cost for profile in profiles(layers, input_specs, **kwargs)]


def measured(layers, input_specs, file=None):
  return measured_costs.measure_profiles(profiles(layers, input_specs), file)


def parameter_costs(layers, **training):
  names = [params.name for params in layers]
  return weights.parameter_costs(layers, names, weights.Training(**training))
