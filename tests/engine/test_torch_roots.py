"""Filter groups for PyTorch models: a small ResNet like torchvision's, and what cannot take groups."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install rootgen[torch]")

from torch import nn  # noqa: E402

import rootgen.torch  # noqa: E402
from rootgen.errors import RootgenError  # noqa: E402

torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Conv2d(channels, out, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 48, 2), Block(48, 48, 1))
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        x = self.maxpool(self.conv1(x))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ResNet()


def groups(model: nn.Module) -> dict[str, int]:
    return {name: m.groups for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def test_groups_halve_where_the_output_size_changes(model):
    before = copy.deepcopy(model.state_dict())
    found = rootgen.torch.to_roots(model, root=8, example=X)
    wanted = {"layer1.0.conv1": 8, "layer2.0.conv1": 4, "layer2.1.conv2": 4, "layer3.0.conv1": 2, "conv1": 1}
    assert {name: groups(found.model)[name] for name in wanted} == wanted
    assert {n for n, g in groups(found.model).items() if g == 1} == {"conv1", *(
        name for name in groups(model) if "downsample" in name
    )}  # fmt: skip
    weights = dict(found.model.named_parameters())
    assert weights["layer2.0.conv1.weight"].shape == (32, 4, 3, 3)
    assert groups(model) == dict.fromkeys(groups(model), 1)  # the model itself is left alone
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        if value.shape == found.model.state_dict()[name].shape:  # unchanged layers keep their weights
            assert torch.equal(value, found.model.state_dict()[name])
    assert found(X).shape == (2, 10)
    assert found.training
    assert model.training


def test_the_table_says_what_was_changed(model):
    found = rootgen.torch.to_roots(model, root=8, example=X)
    text = " ".join(str(found.changes).split())
    assert "conv1 - 16x32x32 3 1 kept: on the image" in text
    assert "layer1.0.conv1 1 16x16x16 16 1 -> 8" in text
    assert "layer3.1.conv2 3 48x4x4 48 1 -> 2" in text
    old, new = (sum(p.numel() for n, p in m.named_parameters() if n.endswith("weight") and p.dim() == 4 and
                    p.shape[-1] > 1) for m in (model, found.model))  # fmt: skip
    assert f"{old:,}" in text
    assert f"{new:,}" in text


def test_stages_follow_the_data_and_not_the_order_of_running():
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.down = nn.Conv2d(8, 8, 3, 2, 1)

        def forward(self, x):
            x = self.stem(x)
            low = self.down(self.first(x))
            return self.second(x).mean() + low.mean()  # runs after `down`, but reads the stem

    found = rootgen.torch.to_roots(Branches(), root=4, example=torch.zeros(1, 3, 8, 8))
    assert groups(found.model) == {"stem": 1, "first": 4, "second": 4, "down": 2}


def test_a_frozen_model_is_seen_too_and_stays_frozen(model):
    model.eval().requires_grad_(False)
    found = rootgen.torch.to_roots(model, root=8, example=X)
    assert groups(found.model)["layer2.0.conv1"] == 4
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert not found.model.training


def test_the_other_plans_and_layers_by_hand(model):
    assert groups(rootgen.torch.to_roots(model, tree=2, example=X).model)["layer3.0.conv2"] == 8
    assert groups(rootgen.torch.to_roots(model, column=4, example=X).model)["layer3.0.conv2"] == 4
    by_hand = rootgen.torch.to_roots(model, group={"layer1.0.conv1": 2, "layer2.0.downsample": 4}, example=X).model
    assert {name: g for name, g in groups(by_hand).items() if g > 1} == {"layer1.0.conv1": 2, "layer2.0.downsample": 4}
    plan = rootgen.Plan.of(root=8, group={"layer1.0.conv1": 1})
    assert groups(rootgen.torch.to_roots(model, plan=plan, example=X).model)["layer1.0.conv1"] == 1
    odd = rootgen.torch.to_roots(model, column=32, example=X)  # divides layer2's later channels alone
    assert "kept: 32 groups do not divide its 16 input channels" in str(odd.changes)


def test_fresh_weights_are_pytorchs_or_those_of_a_function(model):
    nn.init.zeros_(model.layer1[0].conv1.weight)
    found = rootgen.torch.to_roots(model, root=8, example=X).model.layer1[0].conv1
    bound = (found.weight.shape[1] * 9) ** -0.5  # of PyTorch's own convolution
    assert 0.8 * bound < found.weight.abs().max() <= bound
    ones = rootgen.torch.to_roots(model, root=8, example=X, init=lambda conv: nn.init.ones_(conv.weight))
    assert bool((ones.model.layer1[0].conv1.weight == 1).all())


def test_it_trains_and_copies(model):
    found = rootgen.torch.to_roots(model, root=8, example=X)
    other = copy.deepcopy(found)
    optimizer = torch.optim.SGD(found.parameters(), 0.05)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(found(X), torch.tensor([1, 2]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert not torch.equal(other.model.fc.weight, found.model.fc.weight)


def test_what_cannot_take_groups_is_refused(model):
    with pytest.raises(RootgenError, match=r"ResNet: column-7 fits none of its spatial convolutions: 'layer3.1.conv2'"):
        rootgen.torch.to_roots(model, plan=rootgen.Plan("column", 7), example=X)
    with pytest.raises(RootgenError, match="no groups asked for"):
        rootgen.torch.to_roots(model, example=X)
    with pytest.raises(RootgenError, match=r"no convolution 'layer1.0.conv3' to give groups to \(did you mean"):
        rootgen.torch.to_roots(model, group={"layer1.0.conv3": 2}, example=X)
    with pytest.raises(RootgenError, match=r"'layer1.0.conv1': 3 groups do not divide its 16 input channels"):
        rootgen.torch.to_roots(model, group={"layer1.0.conv1": 3}, example=X)
    with pytest.raises(RootgenError, match="besides those on the image"):
        rootgen.torch.to_roots(nn.Sequential(nn.Conv2d(3, 8, 3)), root=2)
    with pytest.raises(RootgenError, match=r"ResNet: does not run on the example: .* \(pass a batch as example\)"):
        rootgen.torch.to_roots(model, root=2, example=torch.zeros(1, 4, 8, 8))
    with pytest.raises(TypeError, match=r"model is a str, not a torch.nn.Module"):
        rootgen.torch.to_roots("resnet18", root=2)
    normed = nn.Sequential(nn.Conv2d(3, 8, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)))
    with pytest.raises(RootgenError, match="its weight is made by something else"):
        rootgen.torch.to_roots(normed, root=2, example=X)


@pytest.mark.parametrize(
    "error", [KeyError("features"), IndexError("of a list"), NotImplementedError(), ZeroDivisionError()]
)
def test_a_model_that_fails_on_the_example_says_how(error):
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            raise error

    failing = Fails().eval()
    told = str(error) or type(error).__name__
    with pytest.raises(RootgenError, match=f"Fails: does not run on the example: {told}.*pass a batch as example"):
        rootgen.torch.to_roots(failing, root=4, example=X)
