"""README's moving picture, from bundled weights: `python -m docs.hero [--seed N]` writes nbs/images/hero.gif.

A drawn film; the slots into which SlotMIM divides each frame; the motion that MC-JEPA sees; a film of RIVER, which is
given three frames and predicts the others.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_workbench import catalog, show, world

ROOT = Path(__file__).resolve().parent.parent
FRAMES, SIDE, GIVEN = 16, 192, 3
WORDS = 'a drawn film', 'SlotMIM: slots', 'MC-JEPA: motion', 'RIVER: {}'


def scene(seed) -> torch.Tensor:
    "A film of a level-3 scene, (T,3,S,S) float"
    made = world.batch([seed], kind='scene', level=3, size=(SIDE, SIDE), frames=FRAMES + 1, truth=False)
    return made['frames'][0] / 255


def slots(film) -> list:
    "Each frame with the prototype that wins each patch"
    maps = catalog.load('slotmim').slots(film)
    keep = maps.flatten().bincount().argsort(descending=True)
    order = torch.empty_like(keep)
    order[keep] = torch.arange(len(keep))                  # the most frequent prototypes get the clearest colours
    return [show.overlay(x, order[m], alpha=.62) for x, m in zip(film[:-1], maps)]


def motion(film) -> list:
    "Flow to the next frame as colours, one scale for the whole film"
    flow = catalog.load('mcjepa').flow(film[:-1], film[1:])
    scale = flow.norm(dim=1).flatten().kthvalue(int(.99 * flow[:, 0].numel()))[0].item()
    return [show.flow_colours(f, scale) for f in flow]


def predicted(seed) -> list:
    "A film of balls: three frames are given, the others predicted"
    given = world.batch([seed], kind='bounce', level=1, size=(64, 64), frames=GIVEN, truth=False)['frames'] / 255
    film = torch.cat([given, catalog.load('river').predict(given, FRAMES - GIVEN, seed=0).clamp(0, 1)], 1)[0]
    return [torch.nn.functional.interpolate(x[None], size=(SIDE, SIDE), mode='bicubic')[0].clamp(0, 1) for x in film]


def frame(panels, t) -> Image.Image:
    "The four panels side by side, a line of words under each"
    gap, line = 8, 22
    sheet = Image.new('RGB', (4 * SIDE + 3 * gap, SIDE + line), 'white')
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for k, (panel, words) in enumerate(zip(panels, WORDS)):
        sheet.paste(show.to_image(panel[t]).resize((SIDE, SIDE)), (k * (SIDE + gap), 0))
        pen.text((k * (SIDE + gap) + 2, SIDE + 3), words.format('given' if t < GIVEN else 'predicted'), 'black', font)
    return sheet


@torch.inference_mode()
def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--seed', type=int, default=9010, help='of the scene')
    p.add_argument('--balls', type=int, default=9003, help='seed of the bouncing balls')
    p.add_argument('--out', type=Path, default=ROOT/'nbs/images/hero.gif')
    args = p.parse_args()
    film = scene(args.seed)
    panels = list(film), slots(film), motion(film), predicted(args.balls)
    sheets = [frame(panels, t) for t in range(FRAMES)]
    tall = np.concatenate([np.asarray(s) for s in sheets[::5]])       # one palette for all frames
    palette = Image.fromarray(tall).quantize(240, Image.Quantize.MEDIANCUT)
    small = [s.quantize(palette=palette, dither=Image.Dither.NONE) for s in sheets]
    times = [400] * GIVEN + [180] * (FRAMES - GIVEN - 1) + [1200]     # ms
    small[0].save(args.out, save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True)
    print(f'{args.out.name}: {FRAMES} frames, {args.out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__': main()
