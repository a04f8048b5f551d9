"""MNIST on several processes: each trains the same net on its own part of every batch.

    python examples/mnist_mpi.py               # one process, without MPI
    mpirun -n 4 python examples/mnist_mpi.py   # four: pip install "tinygrad_kr[mpi]"

Rank 0 writes the progress. Where MNIST can neither be found nor downloaded, the small digits (8 x 8
pixels) that come with tinygrad_kr take its place.
"""

import numpy as np

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.language import Text

EPOCHS, BATCH = 5, 100
DIGITS = Text(
    "MNIST was not found, so the nets learn the small digits",
    "MNIST를 찾지 못해 작은 숫자로 학습합니다",
)
EPOCH = Text(
    "epoch {}: loss {:.4f}, {:.2%} of the test images",
    "에포크 {}: 손실 {:.4f}, 테스트 이미지 {:.2%}",
)

group = tk.distributed.init(timeout=60)


def load() -> tuple[np.ndarray, ...]:
    """Training images and labels, test images and labels."""
    try:
        return *data.mnist("train"), *data.mnist("test")
    except data.DatasetNotFoundError:
        return *data.digits("train"), *data.digits("test")


if group.rank == 0 and len(load()[0]) < 60_000:  # `load` downloads the files, once
    print(DIGITS.say(), flush=True)
group.barrier()
images, labels, test_images, test_labels = load()
images, test_images = images.reshape(len(images), -1), test_images.reshape(len(test_images), -1)

tk.manual_seed(0)
net = nn.Sequential(nn.Linear(images.shape[1], 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10))
net = group.broadcast(net)  # all start from rank 0's; from here on dropout differs between ranks
optimizer = group.optimizer(optim.Adam(net.parameters(), lr=1e-3))
sampler = group.sampler(images, shuffle=True)
loader = data.DataLoader((images, labels), BATCH // group.size, sampler=sampler)


@tk.compile
def step(x: tk.Tensor, y: tk.Tensor) -> tk.Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()  # averages the gradients over the ranks
    optim.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    return loss


for epoch in range(1, EPOCHS + 1):
    net.train()
    losses = [step(x, y).item() for x, y in loader]
    loss = group.all_reduce(float(np.mean(losses)))
    net.eval()
    mine = slice(group.rank, None, group.size)  # each rank tests its share
    with tk.no_grad():
        guesses = net(tk.Tensor(test_images[mine])).argmax(axis=1).numpy()
    right = int((guesses == test_labels[mine]).sum())
    accuracy = group.all_reduce(right, "sum") / len(test_labels)
    if group.rank == 0:
        print(EPOCH.say().format(epoch, loss, accuracy), flush=True)
