"""A compiled step of the XOR net; `step.source` is docs/xor_step.c."""

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim

net = nn.Sequential(nn.Linear(2, 10), nn.Sigmoid(), nn.Linear(10, 1))
optimizer = optim.SGD(net.parameters(), lr=1.0)


@tk.compile
def step(x, y):
    optimizer.zero_grad()
    loss = F.binary_cross_entropy_with_logits(net(x), y)
    loss.backward()
    optimizer.step()
    return loss


x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = Tensor([[0.0], [1.0], [1.0], [0.0]])
losses = step.repeat(5_000, x, y)
print(step)
