"""Layers, losses and containers, with PyTorch's names, parameters and formulas."""

from tinygrad_kr.nn import init as init
from tinygrad_kr.nn.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Hardtanh,
    LeakyReLU,
    LogSoftmax,
    Maxout,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tinygrad_kr.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from tinygrad_kr.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from tinygrad_kr.nn.dropout import Dropout
from tinygrad_kr.nn.embedding import Embedding
from tinygrad_kr.nn.functional_call import functional_call
from tinygrad_kr.nn.linear import Identity, Linear
from tinygrad_kr.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    CTCLoss,
    GaussianNLLLoss,
    HingeEmbeddingLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    MarginRankingLoss,
    MSELoss,
    MultiLabelSoftMarginLoss,
    NLLLoss,
    PoissonNLLLoss,
    SmoothL1Loss,
    TripletMarginLoss,
)
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.normalization import BatchNorm1d, BatchNorm2d, LayerNorm
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.nn.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from tinygrad_kr.nn.rbm import DBN, RBM
from tinygrad_kr.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinygrad_kr.nn.shape import Flatten, Unflatten


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "CELU",
    "DBN",
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RBM",
    "RNN",
    "SELU",
    "AvgPool1d",
    "AvgPool2d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "CTCLoss",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GaussianNLLLoss",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "MaxPool1d",
    "MaxPool2d",
    "Maxout",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiLabelSoftMarginLoss",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "PoissonNLLLoss",
    "RNNCell",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "TripletMarginLoss",
    "Unflatten",
    "functional_call",
    "init",
]
