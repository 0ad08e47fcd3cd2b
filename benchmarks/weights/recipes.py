"""Trains a bundled weight as its recipe says, scores it beside its baselines, writes weights and card.

A method's recipes live in `benchmarks/weights/<method>.py`, which holds

    recipes       name → Recipe
    scores        (method, name) → list of the card's scores; where the recipe is compared with another method's run,
                  that method comes as a named argument
    recheck       (method, card) → (name, figure on the card, the same figure made again)

Those of `baselines.py` are trained and not bundled.

A stopped command goes on from the newest checkpoint of its run. `--score` trains nothing and writes the card anew.
"""
import argparse
import importlib
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.provenance import command, commit, processor_name
from ssl_workbench import catalog, core, training
from ssl_workbench.learner import newest_checkpoint, read_log

SOURCES = {
    'world': dict(source='ssl_workbench.world, drawn by this project', licence='Apache-2.0'),
    'camvid': dict(source="CamVid (Brostow et al. 2009), SegNet's 11 classes and split",
                   licence='for research; not redistributed'),
    'cifar10': dict(source='CIFAR-10 (Krizhevsky 2009)', licence='not stated by its authors; not redistributed'),
    'tiny_imagenet': dict(source='Tiny-ImageNet-200 (Stanford CS231n, from ImageNet): photographs of 64 pixels',
                          licence='for research; not redistributed'),
    'davis': dict(source='DAVIS 2016 (Perazzi et al. 2016), frames of 240 pixels height',
                  licence='for research; not redistributed')}
SEEN = {'tiny_imagenet': 'trained on 64-pixel photographs', 'camvid': 'trained on frames of street drives',
        'davis': 'trained on frames of films', 'cifar10': 'trained on 32-pixel photographs',
        'world': 'trained on drawn pictures'}          # what weights have seen, in words, by the first source
POINTS = 200                        # of the reference curve
RUNS = 'runs/weights-{}'.format     # a recipe's run


@dataclass(frozen=True)
class Recipe:
    "How one bundled file is made"
    method: str                     # of the catalog
    data: str                       # as `ssl-workbench train --data` takes it
    preset: str = 'cpu'
    changes: dict = field(default_factory=dict)  # settings that differ from the preset
    seed: int = 0
    against: str = ''               # recipe in `baselines` that the card compares it with
    gpu: dict | None = None         # settings that differ from the gpu preset, for ten minutes of a GPU; None: none


def recipe_of(name:str):
    "(recipe, its module); ValueError lists what there is"
    found = {}
    here = [e.name for e in catalog.catalog + catalog.classics if (Path(__file__).parent/f'{e.name}.py').exists()]
    for file in [*here, 'baselines']:
        home = importlib.import_module(f'benchmarks.weights.{file}')
        found |= {n: (r, home) for n, r in home.recipes.items()}
    if name not in found: raise ValueError(f"there is no recipe '{name}': there are {', '.join(found)}")
    return found[name]


def on_gpu(recipe):
    "The recipe's variant for a GPU; ValueError where it has none"
    if recipe.gpu is None: raise ValueError(f'this recipe of {recipe.method} has no variant for a GPU')
    return replace(recipe, preset='gpu', changes=recipe.gpu)


def config_of(recipe):
    "The settings of a recipe"
    return catalog.replace_config(core.pick(catalog.module(recipe.method).presets, recipe.preset), recipe.changes)


def train(recipe, out, device):
    "The learner at the end of its run, resumed from the newest checkpoint where there is one"
    config = config_of(recipe)
    data = training.training_data(recipe.data, catalog.find(recipe.method), config)
    learner = training.learner_of(recipe.method, config, data, recipe.seed, out, device,
                                  precision='auto' if recipe.preset == 'gpu' else None)
    learner.save_every = 500
    if newest_checkpoint(out): learner.load()
    start = time.time()
    for step in learner.steps():
        if (step.i + 1) % 200 == 0:
            numbers = {k: round(v, 3) for k, v in (step.terms | step.meter).items()}
            print(f'{step.i + 1}/{step.t:.0%}', numbers, f'{time.time() - start:.0f} s', flush=True)
    return learner


def curve(out) -> dict:
    "The run's loss, averaged over equal stretches"
    log = read_log(out)
    size = max(1, len(log) // POINTS)
    parts = [log[i:i + size] for i in range(0, len(log) - size + 1, size)]
    return dict(step=[p[-1]['i'] for p in parts],
                total=[round(sum(r['total'] for r in p) / len(p), 4) for p in parts])


def seconds(out) -> float:
    "That a run's steps took"
    return sum(r['seconds'] for r in read_log(out))


def baseline(name) -> dict:
    "Title of another method's run, with the seconds it was trained for → that method"
    title = catalog.find(recipe_of(name)[0].method).title
    return {f'{title}, trained for {seconds(RUNS(name)):.0f} s': catalog.load(RUNS(name))}


def card_of(name, recipe, method, out, found) -> dict:
    "All that a card holds but the fingerprint"
    log = read_log(out)
    parts = [*recipe.data.split('+'), *filter(SOURCES.get, [getattr(method.config, 'content_kind', '')])]
    sources = [(part, SOURCES[part.split(':')[0]]) for part in parts]     # MC-JEPA's content images are data, too
    again = command('benchmarks.weights', [name, *(['--gpu'] if recipe.preset == 'gpu' else [])])
    return dict(method=recipe.method, preset=recipe.preset, config=dict(vars(method.config)),
                changed=recipe.changes, seed=recipe.seed,
                steps=len(log), data=[dict(name=part, **source) for part, source in sources],
                device=processor_name(), threads=torch.get_num_threads(), wall_seconds=round(seconds(out), 1),
                torch=torch.__version__, commit=commit(short=True), command=again,
                seen=SEEN[recipe.data.split('+')[0].split(':')[0]], scores=found, curve=curve(out))


def main(argv=None) -> None:
    "Train, score, write"
    p = argparse.ArgumentParser(prog='python -m benchmarks.weights', description=__doc__.splitlines()[0])
    p.add_argument('name', help='of the recipe')
    p.add_argument('--out', help='folder of the run; default runs/weights-NAME')
    p.add_argument('--device')
    p.add_argument('--score', action='store_true', help='train nothing; score the newest checkpoint')
    p.add_argument('--gpu', action='store_true', help="the recipe's variant that a GPU trains in ten minutes")
    args = p.parse_args(argv)
    try:
        recipe, home = recipe_of(args.name)
        if args.gpu: recipe = on_gpu(recipe)
    except ValueError as e: sys.exit(f'benchmarks.weights: {e}')
    out = args.out or RUNS(args.name + '-gpu' * args.gpu)
    method = catalog.load(out) if args.score else train(recipe, out, args.device).method
    if recipe.against and not args.score: train(recipe_of(recipe.against)[0], RUNS(recipe.against), args.device)
    method.eval()
    if not hasattr(home, 'scores'):
        return print(f'{args.name}: {len(read_log(out))} steps, {seconds(out):.0f} s, in {out}')
    others = baseline(recipe.against) if recipe.against else {}
    unscored = dict(name='none', value=0., protocol='not scored', baselines={'none': 0.})
    draft = card_of(args.name, recipe, method, out, [unscored])
    file = catalog.save_weights(method, Path(out)/args.name, draft)
    method = catalog.load(file).to(core.device(args.device))       # what is scored is what is shipped
    found = home.scores(method, args.name, **others)
    file = catalog.save_weights(method, core.weights_dir()/args.name, card_of(args.name, recipe, method, out, found))
    for s in found: print(f"{s['name']}: {s['value']:.3f} ± {s['half']:.3f}   {s['baselines']}")
    print(file, file.stat().st_size, 'bytes')
