"""tinygrad_kr's design in 100 lines of NumPy, and a net that learns XOR. See docs/reading.md."""

import numpy as np


# fmt: off
class Tensor:
    """An array and its record: the op that made it, the op's inputs, and the time."""
    __array_ufunc__ = None  # so that `array * tensor` calls Tensor.__rmul__
    clock = 0

    def __init__(self, data, op=None, inputs=(), params=None):
        self.data, self.grad = np.asarray(data, float), 0.0
        self.op, self.inputs, self.params = op, inputs, params or {}
        self.made = Tensor.clock = Tensor.clock + 1

    def backward(self):  # adds to `grad` of each leaf, a Tensor that no op made
        for x, g in walk(self).items():
            if x.op is None:
                x.grad = x.grad + g

    def __add__(a, b): return add(a, b)
    def __mul__(a, b): return multiply(a, b)
    def __pow__(a, n): return power(a, n=n)
    def __matmul__(a, b): return matmul(a, b)
    def __rmatmul__(a, b): return matmul(b, a)
    def __neg__(a): return a * -1.0
    def __sub__(a, b): return a + b * -1.0
    def __rsub__(a, b): return b + a * -1.0
    def __truediv__(a, b): return a * b**-1.0
    def __rtruediv__(a, b): return b * a**-1.0
    def __gt__(a, b): return a.data > b  # an array: a comparison is a constant
    def __lt__(a, b): return a.data < b
    __radd__, __rmul__ = __add__, __mul__
    mT, shape = property(lambda x: transpose(x)), property(lambda x: x.data.shape)

def op(forward, *rules):
    """Make an op: a NumPy function and, for each input, a rule (g, y, *inputs) -> its cotangent.
    g is the cotangent of the output y. Rules run on arrays; for higher derivatives, on Tensors."""
    def apply(*inputs, **params):
        y = forward(*map(array_of, inputs), **params)
        return Tensor(y, apply, inputs, params) if any(map(is_tensor, inputs)) else y
    apply.rules = rules
    return apply

def is_tensor(x): return isinstance(x, Tensor)  # an array or a number is a constant
def array_of(x): return x.data if is_tensor(x) else x
def summed(x, shape):  # over the axes along which broadcasting repeats an array of `shape`
    ones = tuple(i for i, size in enumerate((1,) * (x.ndim - len(shape)) + shape) if size == 1)
    return x.sum(ones, keepdims=True).reshape(shape)

add       = op(np.add,                     lambda g, y, a, b: g,        lambda g, y, a, b: g)
multiply  = op(np.multiply,                lambda g, y, a, b: g * b,    lambda g, y, a, b: g * a)
matmul    = op(np.matmul,                  lambda g, y, a, b: g @ b.mT, lambda g, y, a, b: a.mT @ g)
power     = op(lambda x, n: x**n,          lambda g, y, x, n: g * n * x ** (n - 1))
exp       = op(np.exp,                     lambda g, y, x: g * y)
log       = op(np.log,                     lambda g, y, x: g / x)
tanh      = op(np.tanh,                    lambda g, y, x: g * (1 - y * y))
relu      = op(lambda x: np.maximum(x, 0), lambda g, y, x: g * (x > 0))
transpose = op(np.matrix_transpose,        lambda g, y, x: g.mT)
sum_to    = op(summed,                     lambda g, y, x, shape: g * np.ones(x.shape))

def walk(y, create_graph=False):
    """The chain rule: the cotangents of y and of all Tensors that y depends on."""
    waiting, done = {y: Tensor(np.ones(y.shape)) if create_graph else np.ones(y.shape)}, {}
    while waiting:  # newest first: whatever used a node is newer, so its cotangent is complete
        node = max(waiting, key=lambda node: node.made)
        g = done[node] = waiting.pop(node)
        given = [x if create_graph else array_of(x) for x in (node, *node.inputs)]
        for rule, x in zip(node.op.rules if node.op else (), node.inputs, strict=True):
            if is_tensor(x):
                gx = rule(g, *given, **node.params)
                gx = gx if gx.shape == x.shape else sum_to(gx, shape=x.shape)  # undo broadcasting
                waiting[x] = waiting[x] + gx if x in waiting else gx
    return done

def grad(f):  # the derivative of f, a function of Tensors too: grad(grad(f)) is the second
    def derivative(x):
        x = x if is_tensor(x) else Tensor(x)
        return walk(f(x), create_graph=True).get(x, Tensor(np.zeros(x.shape)))
    return derivative

def learn_xor(seed=0, steps=1_000, lr=0.5):
    """Train a 2-10-1 net on the four points; return its outputs, the probabilities of a 1."""
    draw, sign = np.random.default_rng(seed).normal, np.array([[-1], [1], [1], [-1]])
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    w1, b1, w2, b2 = weights = [Tensor(draw(size=size)) for size in ((2, 10), 10, (10, 1), 1)]
    for step in range(steps):
        z = tanh(x @ w1 + b1) @ w2 + b2
        loss = sum_to(log(1 + exp(-sign * z)), shape=()) / 4  # binary cross-entropy of logits
        loss.backward()
        for w in weights:  # SGD; the batch is all four points
            w.data, w.grad = w.data - lr * w.grad, 0.0
        if step % 200 == 0:
            print(f"step {step:4}  loss {loss.data:.4f}")
    return 1 / (1 + np.exp(-z.data))

if __name__ == "__main__":
    print("0 0, 0 1, 1 0, 1 1 ->", learn_xor().ravel().round(3))
    print("tanh'''(0) =", grad(grad(grad(tanh)))(0.0).data)
