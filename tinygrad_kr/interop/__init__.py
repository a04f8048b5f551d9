"""Exchange with other libraries: PyTorch's state dicts, scikit-learn's estimators, SciPy's solvers.

`interop.sklearn` needs scikit-learn, `interop.scipy` SciPy. Both are imported when they are used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tinygrad_kr.interop.pytorch import from_torch_state_dict, to_torch_state_dict

if TYPE_CHECKING:
    from tinygrad_kr.interop import scipy as scipy
    from tinygrad_kr.interop import sklearn as sklearn

# Without `sklearn`, so that `import *` works where scikit-learn is missing.
__all__ = ["from_torch_state_dict", "scipy", "to_torch_state_dict"]


def __getattr__(name: str) -> Any:
    """Import a submodule, whose library may be missing, when it is used."""
    if name in ("scipy", "sklearn"):
        return importlib.import_module(f"tinygrad_kr.interop.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
