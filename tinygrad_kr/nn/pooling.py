"""Pooling layers: each window reduced to its largest element or its mean."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.functional.convolution import Sizes
from tinygrad_kr.nn.module import Module


class _Pool(Module):
    """Base class of the layers: the stride is the kernel's size unless one is given."""

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, ceil_mode: bool
    ) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    _function: Any

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation, self.return_indices = dilation, return_indices

    def forward(self, input: Any) -> Any:
        return self._function(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest element of each window of one axis: (N, C, L) -> (N, C, L').

    Options: see `MaxPool2d`.

    >>> nn.MaxPool1d(2)(tk.tensor([[1.0, 5.0, 2.0, 3.0]]))
    Tensor([[5., 3.]])
    """

    _function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window of two axes: (N, C, H, W) -> (N, C, H', W').

    H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.
    kernel_size, stride, padding, dilation: one number or one per axis. The stride is kernel_size by
        default. The padding is of -inf.
    return_indices: return (largest, position of each in the flattened axes).
    ceil_mode: round H' up, so that a last window may extend beyond the edge.

    The gradient goes to the first of several equal maxima. A call raises ValueError for sizes that
    do not fit.

    >>> nn.MaxPool2d(2)(tk.ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    _function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window of three axes: (N, C, D, H, W) -> (N, C, D', H', W').

    Options, gradient and errors: see `MaxPool2d`.

    >>> nn.MaxPool3d(2)(tk.ones(1, 3, 4, 8, 8)).shape
    (1, 3, 2, 4, 4)
    """

    _function = staticmethod(F.max_pool3d)


class AvgPool1d(_Pool):
    """The mean of each window of one axis: (N, C, L) -> (N, C, L').

    Options: see `AvgPool2d`.

    >>> nn.AvgPool1d(2)(tk.tensor([[1.0, 5.0, 2.0, 3.0]]))
    Tensor([[3. , 2.5]])
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def forward(self, input: Any) -> Any:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(_Pool):
    """The mean of each window of two axes: (N, C, H, W) -> (N, C, H', W').

    H' = floor((H + 2 padding - kernel_size) / stride) + 1.
    kernel_size, stride, padding: one number or one per axis. The stride is kernel_size by default.
    ceil_mode: round H' up, so that a last window may extend beyond the edge.
    count_include_pad: count the zeros of the padding in the mean.
    divisor_override: divide by this number instead.

    A call raises ValueError for sizes that do not fit.

    >>> nn.AvgPool2d(2)(tk.ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Any) -> Any:
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class _Adaptive(Module):
    """Base class of the layers that pool to a size."""

    _function: Any

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        return self._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """The means of `output_size` bins of one axis: (N, C, L) -> (N, C, output_size).

    Bins and errors: see `AdaptiveAvgPool2d`.

    >>> nn.AdaptiveAvgPool1d(2)(tk.tensor([[1.0, 2.0, 3.0, 6.0]]))
    Tensor([[1.5, 4.5]])
    """

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_Adaptive):
    """The means of bins of two axes: (N, C, H, W) -> (N, C, *output_size), for any H and W.

    Bin i of n of an axis of size H reaches from floor(i H / n) to ceil((i + 1) H / n).
    output_size: one number of bins, or one for each axis; None keeps that size.

    A call raises ValueError for sizes that do not fit.

    >>> nn.AdaptiveAvgPool2d(1)(tk.ones(2, 8, 5, 7)).shape
    (2, 8, 1, 1)
    """

    _function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveMaxPool2d(_Adaptive):
    """The largest elements of bins of two axes: (N, C, H, W) -> (N, C, *output_size).

    return_indices: return (largest, position of each in the flattened axes).
    Bins and errors: see `AdaptiveAvgPool2d`. The gradient goes to the first of several equal
    maxima of a bin.

    >>> nn.AdaptiveMaxPool2d(1)(tk.arange(6.0).reshape(1, 2, 3))
    Tensor([[[5.]]])
    """

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Any) -> Any:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)
