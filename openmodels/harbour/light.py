"""What a camera does to a picture: shadow, colour shift, blur and noise, all from a seed."""

import random

import numpy as np
from PIL import Image, ImageFilter


def photograph(image: Image.Image, rng: random.Random, strength: float = 1.0) -> Image.Image:
    """Return the picture as a camera might see it. strength: 0 leaves it alone, 1 is usual."""
    if strength <= 0:
        return image
    if rng.random() < 0.3 * strength:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.6) * strength))
    pixels = np.asarray(image, dtype=np.float32)  # (height, width, 3)
    gains = np.array([rng.uniform(1 - 0.12 * strength, 1.0) for _ in range(3)], np.float32)
    height, width = pixels.shape[:2]
    light = gains * np.ones((height, width, 1), np.float32)
    if rng.random() < 0.4 * strength:
        light *= shadow(width, height, rng, strength)[:, :, None]
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(
        (height, width), dtype=np.float32
    )
    pixels = pixels * light + rng.uniform(0, 9) * strength * noise[:, :, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def shadow(width: int, height: int, rng: random.Random, strength: float) -> np.ndarray:
    """Return (height, width) factors up to 1: an edge of shade, or light that falls off."""
    x = np.arange(width, dtype=np.float32) / width - rng.uniform(0.2, 0.8)
    y = np.arange(height, dtype=np.float32) / height - rng.uniform(0.2, 0.8)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.float32(np.cos(angle)) * x[None] + np.float32(np.sin(angle)) * y[:, None]
    sharpness = rng.choice((2.0, 6.0, 40.0))
    side = np.clip(0.5 + sharpness * along, 0, 1)
    return 1 - strength * rng.uniform(0.15, 0.4) * side
