"""The helper of mini-qwen-vl's training: a small head on the patches, not part of the model."""

import torch
import torch.nn.functional as F
from torch import nn

from openmodels.harbour.scenes import MARK_LABELS
from openmodels.minis.vl_data import CHARACTERS, PLACES, SCALE, STRINGS

CLASSES = (len(CHARACTERS) + 1, STRINGS, PLACES)
KINDS_OF_LABEL = tuple(len(values) for values in MARK_LABELS.values())
NEAR = 0.05  # of `SCALE` pixels: errors of a place or box below it count quadratically


class Reader(nn.Module):
    """The helper: from each patch to its letters, its place, and the flag or bar that covers it.

    It is not part of the model.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.head = nn.Linear(hidden, 2 * sum(CLASSES))
        self.objects = nn.Sequential(
            nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, 6 + len(KINDS_OF_LABEL) + sum(KINDS_OF_LABEL)),
        )  # fmt: skip

    def forward(self, patches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return scores of characters, strings and places, each (halves, classes).

        patches: (pictures, patches, hidden).
        """
        scores = self.head(F.rms_norm(patches.float(), patches.shape[-1:]))
        return scores.float().view(-1, sum(CLASSES)).split(CLASSES, -1)

    def loss(self, patches: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the loss, and its part for characters where there is one (nats per letter).

        Letters and empty halves weigh the same in all, though most halves are empty.
        """
        characters, strings, places = self(patches)
        labels = labels.view(-1, 3).long()
        printed = (labels[:, 0] > 0).float()
        each = F.cross_entropy(characters, labels[:, 0], reduction="none")
        letters = (each * printed).sum() / printed.sum().clamp(min=1)
        empty = (each * (1 - printed)).sum() / (1 - printed).sum().clamp(min=1)
        loss = letters + empty
        named = (labels[:, 1] >= 0).float()
        for scores, target in ((strings, labels[:, 1]), (places, labels[:, 2])):
            each = F.cross_entropy(scores, target.clamp(min=0), reduction="none")
            loss = loss + 0.5 * (each * named).sum() / named.sum().clamp(min=1)
        return loss, letters.detach()

    def object_loss(self, patches: torch.Tensor, objects: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the loss of places, boxes and labels, and the mean error of places in pixels.

        patches: (pictures, patches, hidden). objects: (pictures, patches, OBJECTS), as
        `vl_data.object_labels`. Each label has a class more, for patches without it.
        """
        scores = self.objects(F.rms_norm(patches.float(), patches.shape[-1:])).float()
        scores, objects = scores.flatten(0, 1), objects.flatten(0, 1).float()
        places = F.smooth_l1_loss(scores[:, :2], objects[:, :2], beta=NEAR)
        covered = (objects[:, 2] >= 0).float()
        boxes = F.smooth_l1_loss(scores[:, 2:6], objects[:, 2:6], beta=NEAR, reduction="none")
        loss = 8 * places + 8 * (boxes.mean(-1) * covered).sum() / covered.sum().clamp(min=1)
        parts = scores[:, 6:].split([1 + kinds for kinds in KINDS_OF_LABEL], -1)
        for number, part in enumerate(parts):
            target = objects[:, 6 + number].long() + 1
            if not bool((target > 0).any()):
                continue  # no such label in this kind of scene
            each = F.cross_entropy(part, target, reduction="none")
            present = (target > 0).float()
            loss = loss + (each * present).sum() / present.sum()
            loss = loss + 0.5 * (each * (1 - present)).sum() / (1 - present).sum().clamp(min=1)
        error = (scores[:, :2] - objects[:, :2]).abs().mean() * SCALE
        return loss, error.detach()
