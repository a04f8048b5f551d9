"""3장의 정답. Solutions of chapter 3."""

from __future__ import annotations

import numpy as np

from tinygrad_kr import nn


def most_that_is_left(layers):
    return 0.25**layers


def he_weights(inputs, outputs, generator):
    std = np.sqrt(2 / inputs)
    return std * generator.standard_normal((inputs, outputs))


def deep_net():
    activation = nn.ReLU()
    start = nn.init.kaiming_normal_
    layers = []
    for inputs in (2, *[32] * 9):
        layers += [nn.Linear(inputs, 32), activation]
    net = nn.Sequential(*layers, nn.Linear(32, 1))
    for layer in net[::2]:
        start(layer.weight)
    return net
