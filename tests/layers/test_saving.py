"""save and load: a net's tensors in a file, by name."""

import pytest
import torch
from safetensors.torch import load_file

from nets.common import tensorfile
from nets.common.errors import CheckpointError
from nets.layers.containers import Sequential
from nets.layers.linear import Linear
from nets.layers.norm import BatchNorm2d
from nets.layers.saving import load, save


def small_net():
    return Sequential(Linear(2, 3), BatchNorm2d(3))


def test_a_loaded_net_is_bit_identical_and_its_tensors_stay_in_place(tmp_path):
    net, other = small_net(), small_net()
    places = {k: t.data_ptr() for k, t in other.state_dict().items()}
    save(net, tmp_path / "net.safetensors")
    assert load(other, str(tmp_path / "net.safetensors")) is other
    assert all(torch.equal(t, net.state_dict()[k]) for k, t in other.state_dict().items())
    assert {k: t.data_ptr() for k, t in other.state_dict().items()} == places
    save(small_net().to(torch.float64), tmp_path / "wide.safetensors")
    assert load(other, tmp_path / "wide.safetensors").params["0.weight"].dtype == torch.float32


def test_the_file_is_safetensors_with_the_nets_names(tmp_path):
    net = small_net()
    save(net, tmp_path / "net.safetensors")
    found = load_file(tmp_path / "net.safetensors")
    assert found.keys() == net.state_dict().keys()
    assert all(torch.equal(found[k], t) for k, t in net.state_dict().items())
    assert tensorfile.read(tmp_path / "net.safetensors")[1]["net"] == "Sequential"


def test_a_file_that_does_not_fit_names_the_file_and_the_tensor(tmp_path):
    file = tmp_path / "net.safetensors"
    save(Sequential(Linear(2, 4)), file)
    with pytest.raises(CheckpointError, match=r"net.safetensors: 0.weight is \(4, 2\), not \(3, 2\)"):
        load(Sequential(Linear(2, 3)), file)
    with pytest.raises(CheckpointError, match=r"net.safetensors: has no tensor 1.weight"):
        load(Sequential(Linear(2, 4), BatchNorm2d(4)), file)


def test_a_tilde_in_a_path_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    net = small_net()
    save(net, "~/net.safetensors")
    assert (tmp_path / "net.safetensors").exists() and load(net, "~/net.safetensors") is net


def test_a_damaged_file_is_a_checkpoint_error(tmp_path):
    file, net = tmp_path / "net.safetensors", small_net()
    save(net, file)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = {k: t.clone() for k, t in net.state_dict().items()}
    with pytest.raises(CheckpointError, match="net.safetensors"):
        load(net, file)
    assert all(torch.equal(t, before[k]) for k, t in net.state_dict().items())
    with pytest.raises(CheckpointError, match="other.safetensors"):
        load(net, tmp_path / "other.safetensors")
