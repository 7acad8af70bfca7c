"""Roads drawn for tests: bright rectangles on a dark ground are cars, and an oracle that finds them."""

import torch
from PIL import Image
from scipy import ndimage


def write_roads(root, cameras=("camA", "camB"), count=4, size=(96, 128), cars=2):
    """A folder as `YoloFolder` reads it: `count` frames (h, w) a camera, with up to `cars` cars each.

    Frame i of a camera has 1 + i % cars of them; frames differ in where they stand.
    """
    height, width = size
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, camera in enumerate(cameras):
        generator = torch.Generator().manual_seed(number)
        for i in range(count):
            image = (torch.rand(height, width, 3, generator=generator) * 50).byte()
            lines = []
            for slot in range(1 + i % cars):
                w, h = width // 5, height // 4
                x = slot * width // cars + int(torch.randint(width // cars - w, (), generator=generator))
                y = int(torch.randint(height - h, (), generator=generator))
                image[y : y + h, x : x + w] = 255
                center = (x + w / 2) / width, (y + h / 2) / height
                lines.append(f"0 {center[0]} {center[1]} {w / width} {h / height}")
            Image.fromarray(image.numpy()).save(root / "images" / f"{camera}_{i}.png")
            (root / "labels" / f"{camera}_{i}.txt").write_text("\n".join(lines))
    return root


def oracle(images):
    """Detections of images (B, 3, H, W): what is bright, measured to the pixel; padding is too dark."""
    found = []
    for image in images.cpu():
        bright, _ = ndimage.label((image.amin(0) > 0.6).numpy())
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(bright)]
        boxes = torch.tensor(boxes, dtype=torch.float32, device=images.device).reshape(-1, 4)
        labels = torch.zeros(len(boxes), dtype=torch.int64, device=images.device)
        scores = 0.9 - 0.01 * torch.arange(
            len(boxes), device=images.device
        )  # distinct, so that sorting has one order
        found.append({"boxes": boxes, "scores": scores, "labels": labels})
    return found
