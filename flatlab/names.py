"""Generated names: fifteen kinds of invented names, told apart by which letter likes to follow which."""

import numpy as np
import torch
from torch import Tensor

from flatlab.data import Data

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'-"  # tokens 1 … 54
PAD, UNKNOWN = 0, len(LETTERS) + 1
TOKENS, LENGTH, CLASSES = len(LETTERS) + 2, 25, 15
SHORTEST, LONGEST = 4, 10  # letters of one part of a name
ROUNDS = 100  # how often letters are drawn again before we give up


def names(train: int = 1500, test: int = 1500, strength: float = 1.5, seed: int = 0) -> Data:
    """Generated names of 15 classes as tokens `(N, 25)` int64, padded with 0, and class numbers `(N,)`.

    All names are different, and no test name is a training name; the classes are equally frequent, up to rounding.
    Each letter is drawn given the one before it, from probabilities of the class, `softmax(a + s (u + v)/√2)`: `a` lets
    vowels and consonants alternate in all classes; `u` (favourite letters) and `v` (favourite pairs, also at the start)
    are normal and a class's own; s is `strength`. Lengths and capitals say nothing about the class. One name in eight
    has two parts, joined by ' or -. At strength 0 the classes cannot be told apart; at 1.5 whoever knows the
    probabilities is right for about nine names in ten. seed fixes the classes as well as the names.

    The names are generated, not collected: no language is meant. The size (15 classes, 54 letters, padding and unknown,
    at most 25 letters) follows Mason-Williams et al. 2025; the two letters beside a-z and A-Z are our choice.
    Errors: ValueError for fewer than one name per class, a negative strength, or one at which names run out.
    """
    for name, count in (("train", train), ("test", test)):
        if int(count) != count or count < CLASSES:
            raise ValueError(f"{name} is {count}: give a whole number, at least {CLASSES}, one name per class")
    if not 0 <= strength < np.inf:
        raise ValueError(f"strength is {strength}: give a number from 0 (classes alike) upwards")
    random = np.random.default_rng(seed)
    chains = _chains(strength, random)
    labels = np.concatenate([random.permutation(np.arange(count) % CLASSES) for count in (train, test)])
    x = torch.from_numpy(_distinct(chains, labels, random))
    y = torch.from_numpy(labels)
    return Data(x[:train], y[:train], x[train:], y[train:])


def decode(tokens: Tensor) -> list[str]:
    """The words of tokens `(N, letters)`; "?" stands for an unknown letter."""
    letters = ["", *LETTERS, "?"]
    return ["".join(letters[k] for k in row) for row in torch.as_tensor(tokens).tolist()]


def _chains(strength, random):
    """Cumulative probabilities `(classes, 27, 26)` of the next letter; row 26 is for the first one."""
    vowel = np.isin(list(LETTERS[:26]), list("aeiouy"))
    alternate = np.where(vowel[:, None] != vowel, 2.0, 0.0)
    common = np.vstack([alternate, np.zeros(26)])
    letters, pairs = random.standard_normal((CLASSES, 1, 26)), random.standard_normal((CLASSES, 27, 26))
    scores = np.exp(common + strength * (letters + pairs) / np.sqrt(2))
    return (scores / scores.sum(-1, keepdims=True)).cumsum(-1)


def _distinct(chains, labels, random):
    """One name per label, its letters drawn again until no two names are equal; the lengths stay as they were."""
    parts = _parts(len(labels), random)
    names = _letters(chains, labels, parts, random)
    for _ in range(ROUNDS):
        again = np.setdiff1d(np.arange(len(names)), np.unique(names, axis=0, return_index=True)[1])
        if len(again) == 0:
            return names
        names[again] = _letters(chains, labels[again], parts[again], random)
    raise ValueError(f"train and test: {len(names)} different names cannot be had at this strength: ask for fewer")


def _parts(count, random):
    """The lengths of the two parts `(N, 2)`; 0 where there is no second one."""
    parts = random.integers(SHORTEST, LONGEST + 1, (count, 2))
    return parts * np.stack([np.ones(count, int), random.random(count) < 1 / 8], 1)


def _letters(chains, labels, parts, random):
    """Tokens `(N, 25)`: a chain of letters, anew in the second part; each part begins with a capital."""
    count, place = len(labels), np.arange(LENGTH)
    first, second = parts[:, :1], parts[:, 1:]
    start, join = (place == 0) | (place == first + 1), (place == first) & (second > 0)
    names, before = np.zeros((count, LENGTH), np.int64), np.full(count, 26)
    for k in place:
        before = np.where(start[:, k], 26, before)
        before = (chains[labels, before] < random.random((count, 1))).sum(1).clip(max=25)
        names[:, k] = before + 1
    names = np.where(join, random.integers(53, 55, (count, 1)), names + 26 * start)
    return np.where(place < first + second + (second > 0), names, PAD)
