"""Functions of arrays, composed of the primitives in `ops`, below `Tensor`.

They take Tensors, and arrays, lists and numbers beside them; a result is a Tensor where an argument
is. A public function stands in the `__all__` of its module: `tk` has it then.
"""

from tinygrad_kr.arrays import (
    calculus,
    comparison,
    elementwise,
    indexing,
    joining,
    products,
    reduction,
    shape,
    statistics,
)
from tinygrad_kr.arrays.calculus import *
from tinygrad_kr.arrays.comparison import *
from tinygrad_kr.arrays.elementwise import *
from tinygrad_kr.arrays.indexing import *
from tinygrad_kr.arrays.joining import *
from tinygrad_kr.arrays.products import *
from tinygrad_kr.arrays.reduction import *
from tinygrad_kr.arrays.shape import *
from tinygrad_kr.arrays.statistics import *

__all__ = []
__all__ += calculus.__all__
__all__ += comparison.__all__
__all__ += elementwise.__all__
__all__ += indexing.__all__
__all__ += joining.__all__
__all__ += products.__all__
__all__ += reduction.__all__
__all__ += shape.__all__
__all__ += statistics.__all__


def __dir__() -> list[str]:
    return __all__
