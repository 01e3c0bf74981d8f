"""Networks for images and words: their sizes, derivatives and symmetries, and what they refuse. Generated names."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import along, classes, close, normal
from torch import nn

from flatlab import NetworkLoss, names, sharpness, training
from flatlab.models import Classifier, Pixels, gpt, resnet, vgg, vit


def count(net):
    return sum(p.numel() for p in net.parameters())


def images(n=6, channels=1, side=8, seed=0):
    return normal(n, channels, side, side, seed=seed).sigmoid()


def words(n=6, length=5, seed=0):
    """Random words of 2 to `length` letters, padded with 0."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 8, (n, length), generator=generator)
    ends = torch.randint(2, length + 1, (n, 1), generator=generator)
    return torch.where(torch.arange(length) < ends, tokens, 0)


def tiny(name, seed=0, classes=3):
    """A tiny network of each architecture in float64, with inputs; batch norm has statistics of its own."""
    options = {"classes": classes, "seed": seed}
    net = {
        "resnet": lambda: resnet((1, 1), width=2, channels=1, **options),
        "vgg": lambda: vgg((1, 2), width=2, channels=1, **options),
        "vit": lambda: vit(8, 4, 4, 2, 3, 5, 2, channels=1, **options),
        "gpt": lambda: gpt(8, 5, 4, 2, 2, **options),
    }[name]().double()
    x = words() if name == "gpt" else images()
    net.train()(images(16, seed=5) if name != "gpt" else x)
    return net, x


ARCHITECTURES = ("resnet", "vgg", "vit", "gpt")
VISION = ARCHITECTURES[:3]


def tiny_loss(name):
    net, x = tiny(name)
    return NetworkLoss(net, x, classes(len(x), 3))


# Sizes -----------------------------------------------------------------------------------------------------------
def vgg_size(convolutions, channels, outputs):
    """Weight, bias and batch norm of each 3 × 3 convolution; a linear head."""
    pairs = zip([channels, *convolutions], convolutions, strict=False)
    return sum(9 * a * b + b + 2 * b for a, b in pairs) + (convolutions[-1] + 1) * outputs


def vit_size(side, patch, width, depth, heads, mlp, head_width, outputs, channels):
    inner = heads * head_width
    layer = 2 * width + 3 * width * inner + (inner + 1) * width
    layer += 2 * width + (width + 1) * mlp + (mlp + 1) * width
    ends = (channels * patch**2 + 1) * width + width + ((side // patch) ** 2 + 1) * width + 2 * width
    return depth * layer + ends + (width + 1) * outputs


def test_vgg_19_has_the_known_number_of_weights():
    net = vgg((2, 2, 4, 4, 4), 64)
    sixteen = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == len(sixteen) == 16
    assert count(net) == vgg_size(sixteen, 3, 10) == 20_040_522


@pytest.mark.parametrize(
    "blocks, width, known",
    [((1, 1, 1), 16, 78_042), ((3, 3, 3), 16, 272_474), ((2, 2, 2, 2), 64, 11_173_962)],
    ids=["ResNet-8", "ResNet-20", "ResNet-18"],
)
def test_residual_networks_have_the_known_numbers_of_weights(blocks, width, known):
    assert count(resnet(blocks, width)) == known


def test_a_resnet_20_has_the_published_size_and_two_shortcuts_more():
    """The published 269,722 weights are of a ResNet-20 whose shortcuts pad with zeros; ours are convolutions."""
    shortcuts = sum(16 * 2**k * 32 * 2**k + 2 * 32 * 2**k for k in range(2))
    assert count(resnet((3, 3, 3), 16)) == 269_722 + shortcuts


@pytest.mark.parametrize("shape", [(32, 4, 512, 6, 6, 256, 64, 10, 3), (8, 2, 12, 1, 5, 7, 3, 4, 1)])
def test_a_vision_transformer_has_the_size_of_the_formula(shape):
    assert count(vit(*shape)) == vit_size(*shape)


def test_the_papers_transformers_have_their_sizes():
    """GPT-2: 12 d² + 13 d weights a layer, 2 d for the last norm, and a row for each token and place."""
    per_layer = 12 * 128**2 + 13 * 128
    assert count(gpt()) == 4 * per_layer + 2 * 128 + (56 + 25) * 128 + 129 * 15 == 805_647
    assert count(vit(32, 4, 512, 6, 6, 256, 64)) == 6_376_458


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_the_linear_head_of_the_features(name):
    net, x = tiny(name)
    features, head = net.eval().features(x), net.classifier
    assert isinstance(net, Classifier) and list(net.modules())[-1] is head
    assert features.shape == (len(x), head.in_features)
    assert close(net(x), features @ head.weight.T + head.bias, 1e-12)


# Derivatives -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_gradient_is_the_slope_of_the_loss(name):
    loss = tiny_loss(name)
    slope = loss.gradient()
    for direction in normal(4, loss.dim, seed=1):
        assert close(slope @ direction, along(loss, loss.theta, direction, step=1e-6), 1e-6)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_hessian_is_the_slope_of_the_gradient(name):
    loss = tiny_loss(name)
    product = loss.linearize()
    for direction in normal(2, loss.dim, seed=2):
        assert close(product(direction), along(loss.gradient, loss.theta, direction, step=1e-6), 1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_hessian_is_symmetric(name):
    loss = tiny_loss(name)
    u, v = normal(2, loss.dim, seed=3)
    assert close(u @ loss.hvp(loss.theta, v), v @ loss.hvp(loss.theta, u), 1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_streamed_hessian_is_the_whole_one(name):
    whole = tiny_loss(name)
    streamed = NetworkLoss(whole.model, whole.inputs, whole.targets, chunk=4)
    v = normal(whole.dim, seed=4)
    assert close(streamed.hvp(whole.theta, v), whole.hvp(whole.theta, v), 1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_relative_flatness_finds_the_head(name):
    loss = tiny_loss(name)
    found = sharpness.relative_flatness(loss, normalise=False)
    features, W = loss.model.eval().features(loss.inputs), loss.model.classifier.weight
    p = loss.outputs().softmax(1)
    weighted = (torch.diag_embed(p) - p[:, :, None] * p[:, None]) * features.square().sum(1)[:, None, None]
    assert found > 0 and close(found, (weighted.mean(0) * (W @ W.T)).sum(), 1e-10)


# Seeds, kinds of input, modes ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_seed_fixes_the_weights_and_the_global_state_stays(name):
    def start(seed):
        return torch.cat([p.flatten() for p in tiny(name, seed)[0].parameters()])

    state = torch.get_rng_state()
    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_a_seed_the_weights_follow_the_global_state(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first, second = tiny(name, None)[0], tiny(name, None)[0]
    fixed = tiny(name, 3)[0]
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), fixed.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


@pytest.mark.parametrize("name", VISION)
def test_bytes_and_floats_give_the_same_logits(name):
    net = tiny(name)[0].eval()
    pixels = torch.randint(256, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(net.float()(pixels), net.float()(pixels / 255))
    assert close(net.double()(pixels), net.double()(pixels.double() / 255), 1e-12)
    assert close(Pixels(1)(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)), [[[[-1.0, 1.0]]]])


@pytest.mark.parametrize("name", VISION)
def test_the_order_in_memory_does_not_matter(name):
    net = {"resnet": resnet, "vgg": vgg, "vit": lambda **o: vit(8, 4, 8, **o)}[name](channels=3, seed=0).double().eval()
    x = images(channels=3)
    plain = net.to(memory_format=torch.contiguous_format)(x)
    other = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert close(other, plain)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_eval_mode_a_sample_does_not_see_the_others(name):
    net, x = tiny(name)
    alone = torch.cat([net.eval()(row[None]) for row in x])
    assert close(net(x), alone)


def test_narrow_residual_networks_train_in_a_process_that_lives_on():
    """A 1 × 1 convolution of few channels, in channels-last order and with stride 2, crashed torch 2.13."""
    code = """
import torch
from flatlab.models import resnet
net, x = resnet((1, 1), width=4, channels=1, seed=0), torch.rand(50, 1, 8, 8)
for _ in range(60):
    net(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    kept = [torch.randn(17 + k) for k in range(50)]
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_a_narrow_shortcut_is_a_strided_convolution():
    net, x = resnet((1, 1), width=4, channels=1, seed=0).double(), normal(2, 4, 8, 8)
    pool, conv, _ = net.features[-3].shortcut
    assert close(conv(pool(x)), nn.functional.conv2d(x, conv.weight, stride=2))


@pytest.mark.parametrize("name", ["resnet", "vgg"])
def test_batch_norm_sees_the_batch_in_train_mode_and_keeps_still_in_eval_mode(name):
    net, x = tiny(name)
    buffers = [b.clone() for b in net.buffers()]
    before = net.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), buffers, strict=True))
    assert not torch.allclose(net.train()(x), before)
    assert not all(torch.equal(a, b) for a, b in zip(net.buffers(), buffers, strict=True))


@pytest.mark.parametrize("name", ["vit", "gpt"])
def test_transformers_train_as_an_ensemble(name):
    """One batched step is a step of plain gradient descent, member by member."""
    x, y = tiny(name)[1], classes(6, 3)
    both = NetworkLoss(lambda seed: tiny(name, seed)[0], x, y, seeds=[0, 1])
    for seed, theta in enumerate(training.train(both, steps=1, lr=0.1, progress=False).theta):
        loss = NetworkLoss(tiny(name, seed)[0], x, y)
        assert close(theta, loss.theta - 0.1 * loss.gradient())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_learns(name):
    net, x = tiny(name)
    y = classes(6, 3)
    loss = NetworkLoss(net, x, y)
    run = training.train(loss, steps=200, rule=training.sam, rho=0.01, lr=0.1, momentum=0.9, progress=False)
    assert run.loss()() < 0.7 * loss()


# Words -----------------------------------------------------------------------------------------------------------
def test_padding_does_not_change_the_logits():
    net, x = tiny("gpt")
    before = net.eval()(x)
    with torch.no_grad():
        net.features.embed.weight[0] = 100 * normal(4, seed=9)  # what padding looks like
    assert close(net(x), before, 1e-12)
    assert close(net(nn.functional.pad(x[:, :3], (0, 2))), net(x[:, :3]), 1e-12)  # how much of it there is


def test_padding_inside_a_word_is_not_read_either():
    net = tiny("gpt")[0].eval()
    x = torch.tensor([[3, 0, 5, 0, 0]])
    before = net(x)
    with torch.no_grad():
        net.features.embed.weight[0] = 100 * normal(4, seed=9)
    assert close(net(x), before, 1e-12)


def test_the_order_of_the_letters_changes_the_logits():
    net = tiny("gpt")[0].eval()
    one, other = net(torch.tensor([[1, 2, 3, 0, 0], [2, 1, 3, 0, 0]]))
    assert not torch.allclose(one, other)


def test_attention_is_causal():
    """A letter's output does not depend on what follows it."""
    net = tiny("gpt")[0].eval().features
    seen = []
    net.layers[-1].register_forward_hook(lambda _, args, out: seen.append(out))
    net(torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 7, 6], [1, 2, 4, 4, 5]]))
    same, other, changed = seen[0]
    assert close(same[:3], other[:3], 1e-12) and not torch.allclose(same[3:], other[3:])
    assert not torch.allclose(same[2:], changed[2:])


def test_only_padding_gives_finite_logits_and_derivatives():
    loss = NetworkLoss(tiny("gpt")[0], torch.zeros(2, 5, dtype=torch.int64), torch.tensor([0, 1]))
    assert torch.isfinite(loss.outputs()).all() and torch.isfinite(loss.hvp(loss.theta, loss.theta)).all()


def test_an_image_transformer_knows_where_a_patch_is():
    net, x = tiny("vit")
    moved = torch.cat([x[..., 4:], x[..., :4]], -1)
    assert not torch.allclose(net.eval()(x), net(moved))


# Bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("build", [resnet, vgg, lambda **o: vit(16, **o)], ids=VISION)
@pytest.mark.parametrize(
    "x, problem",
    [(torch.ones(2, 1, 16, 16), "channels=3, not 1"), (torch.ones(2, 256), r"\(N, channels, height, width\)")],
)
def test_images_of_another_kind_are_named(build, x, problem):
    with pytest.raises(ValueError, match=problem):
        build(seed=0)(x)


def test_images_that_cannot_be_halved_often_enough_are_named():
    net = vgg((1, 1, 1), seed=0).eval()
    assert net(torch.ones(1, 3, 8, 9)).shape == (1, 10)
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 7\).*at least 8.*fewer blocks"):
        net(torch.ones(1, 3, 8, 7))


def test_images_of_another_size_than_the_transformers_are_named():
    with pytest.raises(ValueError, match=r"\(1, 3, 16, 8\).*side=8"):
        vit(8, seed=0)(torch.ones(1, 3, 16, 8))


@pytest.mark.parametrize(
    "build, problem",
    [
        (lambda: vit(32, patch=5), "patch is 5: it must divide side=32"),
        (lambda: vit(32, heads=0), "heads is 0"),
        (lambda: vit(32, depth=1.5), "depth is 1.5"),
        (lambda: gpt(width=10, heads=4), "heads is 4: it must divide width=10"),
        (lambda: gpt(length=0), "length is 0"),
        (lambda: gpt(classes=True), "classes is True"),
        (lambda: vgg(()), r"blocks is \(\)"),
        (lambda: vgg((1, 0)), r"blocks is \(1, 0\)"),
        (lambda: resnet(()), r"blocks is \(\)"),
        (lambda: resnet((1, 0)), r"blocks is \(1, 0\)"),
        (lambda: resnet(width=0), "width is 0"),
        (lambda: resnet(channels=1.5), "channels is 1.5"),
        (lambda: vgg(width=-1), "width is -1"),
    ],
)
def test_bad_sizes_are_named(build, problem):
    with pytest.raises(ValueError, match=problem):
        build()


@pytest.mark.parametrize(
    "tokens, problem",
    [
        (torch.ones(2, 5), "whole numbers"),
        (torch.ones(5, dtype=torch.int64), "whole numbers"),
        (torch.ones(2, 6, dtype=torch.int64), "length=5"),
        (torch.full((2, 5), 8), "outside 0 … 7"),
    ],
)
def test_bad_tokens_are_named(tokens, problem):
    with pytest.raises(ValueError, match=problem):
        tiny("gpt")[0](tokens)


# Generated names -------------------------------------------------------------------------------------------------
def test_names_are_padded_tokens_of_fifteen_classes():
    data = names.names(300, 150)
    x, y = torch.cat([data.x, data.x_test]), torch.cat([data.y, data.y_test])
    assert (data.x.shape, data.x_test.shape) == ((300, 25), (150, 25)) and (x.dtype, y.dtype) == (torch.int64,) * 2
    assert data.y.bincount().tolist() == [20] * 15 and data.y_test.bincount().tolist() == [10] * 15
    lengths = (x != names.PAD).sum(1)
    assert all((row[:n] > 0).all() and (row[n:] == 0).all() for row, n in zip(x, lengths.tolist(), strict=True))
    assert 4 <= lengths.min() and lengths.max() <= 25 and x.max() < names.UNKNOWN


def test_all_names_are_different_and_every_letter_occurs():
    data = names.names(3000, 3000)
    words = names.decode(torch.cat([data.x, data.x_test]))
    assert len(set(words)) == 6000 and set("".join(words)) == set(names.LETTERS)
    assert all(part[0].isupper() for word in words for part in word.replace("-", "'").split("'"))


def test_a_seed_fixes_the_names():
    first, again, other = (names.names(30, 30, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.x, other.x)


def letters(tokens):
    """The letters 0 … 25 of names `(N, 25)`, with 26 where a part starts, joins or ends."""
    return np.where((tokens >= 1) & (tokens <= 52), (tokens - 1) % 26, 26)


def best_guess(strength):
    """How often the class is right under which a name is most likely, by the pairs of letters of 15,000 other names."""
    data = names.names(15_000, 1_500, strength=strength)
    x, y, new = letters(data.x.numpy()), data.y.numpy(), letters(data.x_test.numpy())
    before, ahead = (np.hstack([np.full((len(t), 1), 26), t[:, :-1]]) for t in (x, new))
    counts = np.ones((names.CLASSES, 27, 27))
    np.add.at(counts, (y[:, None], before, x), 1)
    scores = np.log(counts / counts[..., :26].sum(-1, keepdims=True)) * (np.arange(27) < 26)
    return (scores[:, ahead, new].sum(-1).argmax(0) == data.y_test.numpy()).mean()


def test_names_can_be_told_apart_but_not_all_of_them():
    assert 0.87 < best_guess(1.5) < 0.96
    assert 0.67 < best_guess(1.0) < 0.8
    assert best_guess(0.0) < 0.1


def test_names_that_run_out_are_an_error_and_no_endless_search():
    with pytest.raises(ValueError, match="3000 different names cannot be had at this strength"):
        names.names(1500, 1500, strength=100.0)


def test_classes_do_not_differ_in_length():
    data = names.names(15, 15000)
    lengths = (data.x_test != 0).sum(1).double()
    means = torch.stack([lengths[data.y_test == k].mean() for k in range(15)])
    assert (means - lengths.mean()).abs().max() < 4 * lengths.std() / 1000**0.5


def test_tokens_are_words_again_and_unknown_letters_are_marked():
    known = torch.tensor([[27, 14, 14, 1, 0], [41, 53, 28, 0, 0], [26, names.UNKNOWN, 0, 0, 0]])
    assert names.decode(known) == ["Anna", "O'B", "z?"] and names.decode(known.tolist()) == names.decode(known)
    assert names.UNKNOWN == names.TOKENS - 1 == 55


@pytest.mark.parametrize(
    "options, problem",
    [({"train": 14}, "train is 14"), ({"test": 15.5}, "test is 15.5"), ({"strength": -1.0}, "strength is -1.0"),
     ({"strength": float("nan")}, "strength is nan")],
)  # fmt: skip
def test_bad_arguments_of_names_are_named(options, problem):
    with pytest.raises(ValueError, match=problem):
        names.names(**options)
