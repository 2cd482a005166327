"""Training on a DataLoader and on a Dataset."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from nets.common.errors import DataError, Stopped
from nets.fitting import fit
from nets.losses import CrossEntropyLoss
from nets.tools import survive
from nets.training.hooks import Hook
from tests.small_problem import Interrupt, Squares, problem, sgd, small_net, state

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_a_dataset_is_read_in_order():
    x, y = problem()
    nets = [small_net() for _ in range(3)]
    sources = [(x, y), Squares(x, y), TensorDataset(x, y)]
    for net, source in zip(nets, sources):
        torch.manual_seed(5)
        fit(net, CrossEntropyLoss(), sgd(net), source, source, epochs=2)
    for net in nets[1:]:
        assert all(torch.equal(a, b) for a, b in zip(nets[0].params.values(), net.params.values()))


def test_a_test_loader_is_read_once():
    x, y = problem()
    loader, net = DataLoader(TensorDataset(x, y), batch_size=50), small_net()
    run = fit(net, CrossEntropyLoss(), sgd(net), (x, y), loader, epochs=1)
    assert torch.equal(run.data.test_x, x) and torch.equal(run.data.test_y, y)


def noisy(pairs):
    """A batch whose samples are moved by a random number."""
    x, y = zip(*pairs)
    return torch.stack(x) + torch.rand(1), torch.tensor(y)


def loader_run(out, hooks=(), workers=0, **options):
    """A run on shuffled batches whose transform draws random numbers, with a last batch that is smaller."""
    x, y = problem(101)
    net = small_net()
    loader = DataLoader(Squares(x, y), batch_size=20, shuffle=True, num_workers=workers, collate_fn=noisy)
    settings = {"epochs": 3, "log_every_steps": 2, "out": out, "hooks": hooks} | options
    return fit(net, CrossEntropyLoss(), sgd(net), loader, (x, y), **settings)


def test_a_loaders_batches_come_shuffled_and_complete():
    seen = []

    class Watch(Hook):
        def before_run(self, run):
            learn = run.learner.step
            run.learner.step = lambda x, y, *rest: seen.append(y) or learn(x, y, *rest)

    run = loader_run(None, [Watch()])
    assert [len(y) for y in seen] == [20, 20, 20, 20, 20, 1] * 3
    first, second = torch.cat(seen[:6]), torch.cat(seen[6:12])
    assert not torch.equal(first, second) and torch.equal(first.sort()[0], second.sort()[0])
    assert run.steps == 18 and 0 <= run.history[-1]["wait"] <= 1
    assert 0 < run.history[-1]["train_top1"] <= 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_resumes_bit_identically_in_the_middle_of_an_epoch(workers, tmp_path):
    loader_run(tmp_path / "alone", workers=workers)
    torch.rand(7)  # random numbers drawn elsewhere change nothing
    with pytest.raises(Stopped, match="at step 10 of 18; resume with resume=True"):
        loader_run(tmp_path / "again", [Interrupt(9)], workers)
    loader_run(tmp_path / "again", workers=workers, resume=True)
    assert not survive.differences(*(state(tmp_path / name) for name in ("alone", "again")))


def test_a_loader_with_a_generator_of_its_own_resumes_bit_identically(tmp_path):
    x, y = problem(100)

    def run(out, hooks=(), **options):
        net, own = small_net(), torch.Generator()
        own.seed()
        loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True, generator=own)
        fit(net, CrossEntropyLoss(), sgd(net), loader, epochs=2, out=tmp_path / out, hooks=hooks, **options)

    run("alone")
    with pytest.raises(Stopped):
        run("again", [Interrupt(7)])
    run("again", resume=True)
    assert not survive.differences(*(state(tmp_path / name) for name in ("alone", "again")))


def test_a_loader_of_another_length_than_it_says():
    class Long(DataLoader):
        def __len__(self):
            return 9

    x, y = problem(100)
    net = small_net()
    with pytest.raises(DataError, match="gave 5 batches, its length is 9"):
        fit(net, CrossEntropyLoss(), sgd(net), Long(TensorDataset(x, y), batch_size=20))
