"""Networks that the course measures."""

from collections.abc import Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "softplus": nn.Softplus, "identity": nn.Identity}
SPREAD = 0.02  # sd of the initial embeddings of patches, letters and positions


def mlp(*widths: int, activation: str = "relu", bias: bool = True, seed: int | None = None) -> nn.Sequential:
    """A multi-layer perceptron, `mlp(2, 64, 64, 1)`: linear layers of these widths with `activation` in between.

    Inputs `(N, widths[0])`, outputs `(N, widths[-1])`, no activation at the end. PyTorch's default initialisation; with
    `seed` it is reproducible and the global random state stays as it was. Errors: ValueError for fewer than two widths,
    a width below 1, or an unknown activation.
    """
    if len(widths) < 2 or not all(isinstance(w, int) and w > 0 for w in widths):
        raise ValueError(f"widths are {widths}: give at least input and output width, e.g. mlp(2, 64, 1)")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    with _seeded(seed):
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out, bias=bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class Pixels(nn.Module):
    """Images `(N, C, H, W)`, bytes or floats in 0 … 1, to floats in −1 … 1: the paper's `(x − ½)/½`.

    Errors: ValueError for images of another kind than `channels`, sides of at least `smallest`, or exactly `side`.
    """

    def __init__(self, channels: int, smallest: int = 1, side: int | None = None):
        super().__init__()
        self.channels, self.smallest, self.side = channels, smallest, side

    def forward(self, x: Tensor) -> Tensor:
        problem, side = None, self.side
        if x.ndim != 4:
            problem = "this network needs (N, channels, height, width), e.g. x.view(-1, 1, 8, 8)"
        elif x.shape[1] != self.channels:
            problem = f"this network was built with channels={self.channels}, not {x.shape[1]}"
        elif min(x.shape[2:]) < self.smallest:
            problem = f"each stage halves them, so their sides must be at least {self.smallest}: build fewer blocks"
        elif side is not None and x.shape[2:] != (side, side):
            problem = f"this network was built with side={side}"
        if problem:
            raise ValueError(f"images have shape {tuple(x.shape)}: {problem}")
        return (x if x.is_floating_point() else x / 255) * 2 - 1


class Classifier(nn.Module):
    """Logits `classifier(features(x))`: everything in front of the last linear layer, and that layer."""

    def __init__(self, features: nn.Module, width: int, classes: int):
        super().__init__()
        self.features, self.classifier = features, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.uint8:  # the features cannot know that the weights are float64
            x = x.to(next(self.classifier.parameters()).dtype) / 255
        return self.classifier(self.features(x))


class _Block(nn.Module):
    """Two 3 × 3 convolutions with batch norm, and a shortcut around them; half as large where the width changes."""

    def __init__(self, n_in, n_out):
        super().__init__()
        first = _conv(n_in, n_out, 3, 1 if n_in == n_out else 2)
        self.body = nn.Sequential(*first, nn.ReLU(), *_conv(n_out, n_out, 3))
        self.shortcut = _shortcut(n_in, n_out)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


def resnet(
    blocks: Sequence[int] = (1, 1, 1), width: int = 16, classes: int = 10, channels: int = 3, seed: int | None = None
) -> Classifier:
    """A residual network for small images: a 3 × 3 stem, stages of `blocks` blocks, each stage twice as wide and half
    as large as the last, average pooling and a linear `classifier`.

    `blocks=(1, 1, 1), width=16` is a ResNet-8 (78,042 weights), `(3, 3, 3)` a ResNet-20, `(2, 2, 2, 2), width=64` the
    paper's ResNet-18 (11,173,962). Images `(N, channels, H, W)`, bytes or floats in 0 … 1, to logits `(N, classes)`.
    Errors: ValueError for sizes that are not positive whole numbers, and for images with other channels.
    Source: He et al. 2016, with a 1 × 1 convolution in the shortcut wherever the shape changes.
    """
    _check_sizes(blocks=blocks, width=width, classes=classes, channels=channels)
    widths = [width * 2**stage for stage, count in enumerate(blocks) for _ in range(count)]
    with _seeded(seed):
        stem = Pixels(channels), *_conv(channels, width, 3), nn.ReLU()
        layers = [_Block(n_in, n_out) for n_in, n_out in pairwise([width, *widths])]
        return _pooled([*stem, *layers], widths[-1], classes)


def vgg(
    blocks: Sequence[int] = (1, 1, 2), width: int = 16, classes: int = 10, channels: int = 3, seed: int | None = None
) -> Classifier:
    """A VGG network for small images: stages of `blocks` 3 × 3 convolutions with batch norm and ReLU, each stage closed
    by a 2 × 2 maximum and twice as wide as the last, up to 8 `width`; then average pooling and a linear `classifier`.

    `blocks=(2, 2, 4, 4, 4), width=64` is the paper's VGG-19 (20,040,522 weights for ten classes): one linear layer in
    place of ImageNet's three, and convolutions with biases. Images `(N, channels, H, W)`, bytes or floats in 0 … 1, to
    logits `(N, classes)`. Errors: ValueError for images with other channels, or smaller than `2^len(blocks)`.
    Source: Simonyan and Zisserman 2015, configuration E with batch norm.
    """
    _check_sizes(blocks=blocks, width=width, classes=classes, channels=channels)
    with _seeded(seed):
        layers: list[nn.Module] = [Pixels(channels, smallest=2 ** len(blocks))]
        n_in = channels
        for stage, count in enumerate(blocks):
            for _ in range(count):
                n_out = width * min(2**stage, 8)
                layers += [*_conv(n_in, n_out, 3, bias=True), nn.ReLU()]
                n_in = n_out
            layers.append(nn.MaxPool2d(2))
        return _pooled(layers, n_in, classes)


def vit(
    side: int = 32, patch: int = 4, width: int = 64, depth: int = 2, heads: int = 4, mlp: int = 128,
    head_width: int = 16, classes: int = 10, channels: int = 3, seed: int | None = None,
) -> Classifier:  # fmt: skip
    """A vision transformer: `(side/patch)²` square patches and a class token through `depth` pre-norm layers; the class
    token, normalised, goes into a linear `classifier`.

    Attention has `heads` heads of `head_width`, which need not make up `width`; each layer's MLP is `mlp` wide, with
    GELU. No dropout. `vit(32, 4, 512, 6, 6, 256, 64)` is the paper's for CIFAR-10; its heads of 64 are our choice, as 6
    does not divide 512. Images `(N, channels, side, side)`, bytes or floats in 0 … 1, to logits `(N, classes)`.
    Errors: ValueError for a patch that does not divide `side`, or images of another size.
    Source: Dosovitskiy et al. 2021; queries, keys and values without biases, positions learned.
    """
    _check_sizes(side=side, patch=patch, width=width, depth=depth, heads=heads, mlp=mlp, head_width=head_width,
                 classes=classes, channels=channels)  # fmt: skip
    if side % patch:
        raise ValueError(f"patch is {patch}: it must divide side={side}, the height and width of the images")
    with _seeded(seed):
        layers = [_Layer(width, heads, head_width, mlp, bias=False) for _ in range(depth)]
        return Classifier(_Patches(side, patch, channels, width, layers), width, classes)


def gpt(
    tokens: int = 56, length: int = 25, width: int = 128, depth: int = 4, heads: int = 4, classes: int = 15,
    pad: int = 0, seed: int | None = None,
) -> Classifier:  # fmt: skip
    """A small GPT-2 that classifies words: causal attention over `length` tokens; the last letter's output, normalised,
    goes into a linear `classifier`.

    The defaults are the paper's for names (4 layers, width 128, 4 heads, 15 classes; 54 letters, padding and unknown).
    `depth=1, width=32, heads=2` is a tiny one. The MLP of a layer is 4 `width` wide, with GELU; no dropout. Tokens
    `(N, up to length)` int64 to logits `(N, classes)`; tokens equal to `pad` are masked, wherever they are.
    Errors: ValueError for heads that do not divide `width`, tokens that are no whole numbers below `tokens`, too many
    of them. Source: Radford et al. 2019; the head as in classifiers built on GPT-2, on the last letter.
    """
    _check_sizes(tokens=tokens, length=length, width=width, depth=depth, heads=heads, classes=classes)
    if width % heads:
        raise ValueError(f"heads is {heads}: it must divide width={width}, which the heads share")
    with _seeded(seed):
        layers = [_Layer(width, heads, width // heads, 4 * width, bias=True) for _ in range(depth)]
        return Classifier(_Letters(tokens, length, width, layers, pad), width, classes)


class _Layer(nn.Module):
    """A pre-norm transformer layer: attention, then an MLP, each added to what it read."""

    def __init__(self, width, heads, head_width, mlp, bias):
        super().__init__()
        self.heads, self.norm = heads, nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=bias)
        self.out = nn.Linear(heads * head_width, width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

    def forward(self, x, mask=None):
        parts = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))  # (N, tokens, 3, heads, head_width)
        q, k, v = parts.transpose(1, 3).unbind(2)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (N, heads, tokens, head_width)
        x = x + self.out(read.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class _Patches(nn.Module):
    """Images to the normalised class token `(N, width)`."""

    def __init__(self, side, patch, channels, width, layers):
        super().__init__()
        self.pixels, self.patch = Pixels(channels, side=side), patch
        self.embed = nn.Linear(channels * patch**2, width)
        self.token = nn.Parameter(SPREAD * torch.randn(width))
        self.position = nn.Parameter(SPREAD * torch.randn((side // patch) ** 2 + 1, width))
        self.layers, self.norm = nn.Sequential(*layers), nn.LayerNorm(width)

    def forward(self, x):
        x = self.embed(F.unfold(self.pixels(x), self.patch, stride=self.patch).mT)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.position
        return self.norm(self.layers(x)[:, 0])


class _Letters(nn.Module):
    """Words `(N, letters)` to the normalised output at their last letter `(N, width)`."""

    def __init__(self, tokens, length, width, layers, pad):
        super().__init__()
        self.pad, self.embed = pad, nn.Embedding.from_pretrained(SPREAD * torch.randn(tokens, width), freeze=False)
        self.position = nn.Parameter(SPREAD * torch.randn(length, width))
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(width)

    def forward(self, words):
        self._check(words)
        there, place = words != self.pad, torch.arange(words.shape[1], device=words.device)
        before = place <= place[:, None]
        itself = place == place[:, None]  # so that a padded place, too, reads something
        mask = (before & there[:, None, None, :]) | itself
        try:
            x = self.embed(words) + self.position[: len(place)]
        except IndexError as error:
            raise ValueError(f"tokens hold numbers outside 0 … {self.embed.num_embeddings - 1}") from error
        for layer in self.layers:
            x = layer(x, mask)
        last = (there * place).amax(1)
        return self.norm(x.gather(1, last[:, None, None].expand(-1, 1, x.shape[2]))[:, 0])

    def _check(self, words):
        whole, length = not words.is_floating_point() and words.dtype != torch.bool, len(self.position)
        if words.ndim != 2 or not whole or not 1 <= words.shape[1] <= length:
            given, needed = f"{words.dtype} {tuple(words.shape)}", f"whole numbers (N, 1 … {length})"
            raise ValueError(f"tokens are {given}: this network of length={length} needs {needed}, as names.names().x")


def _pooled(layers, width, classes):
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(features, width, classes).to(memory_format=torch.channels_last)


def _conv(n_in, n_out, size, stride=1, bias=False):
    return nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=bias), nn.BatchNorm2d(n_out)


def _shortcut(n_in, n_out):
    """Nothing, or a 1 × 1 convolution of stride 2; a narrow one skips pixels beforehand, which is the same.

    On CPUs the backward pass of torch 2.13 (oneDNN) corrupts memory for 2 to 6 channels in channels-last order, with
    1 × 1 kernels and stride 2.
    """
    if n_in == n_out:
        return nn.Identity()
    halved = _conv(n_in, n_out, 1, 2) if n_in >= 8 else (nn.AvgPool2d(1, 2), *_conv(n_in, n_out, 1))
    return nn.Sequential(*halved)


def _check_sizes(**sizes):
    """Refuse what is no positive whole number, or no sequence of such."""
    for name, size in sizes.items():
        counts = size if isinstance(size, Sequence) else [size]
        if not counts or not all(type(count) is int and count > 0 for count in counts):
            raise ValueError(f"{name} is {size!r}: give positive whole numbers, e.g. blocks=(1, 1, 2), width=16")


@contextmanager
def _seeded(seed):
    """Draw initial weights from `seed` and leave the global random state as it was; None draws from that state."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield
