"""Photographs named by words: CLIP and SF-CLIP trained on Tiny-ImageNet's class names in sentences, at equal steps.

    python -m benchmarks.photo_words                three training seeds, into benchmarks/results/photo-words.json
    python -m benchmarks.photo_words --steps 200    a shorter run, to see that it works

The data folder (SSL_DATA) holds Tiny-ImageNet and CIFAR-10. A caption is a class name in one of seven sentences, so
pictures of Tiny-ImageNet's validation set are new and its words are not; CIFAR-10's pictures and its task are both new.
SF-CLIP's teachers are weights trained on all 50,000 photographs without their names (`slotmim-real`), and a published
sentence encoder (minilm); the third arm's have seen drawn scenes and captions only.
"""
import argparse
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks import provenance
from benchmarks.protocols.captions import embedded, sized
from benchmarks.protocols.runs import train
from ssl_workbench import catalog, core, probes
from ssl_workbench.data import TEMPLATES, Cifar10, TinyImageNet, class_name
from ssl_workbench.probes.zero_shot import class_prompts

RESULT = Path(__file__).resolve().parent/'results/photo-words.json'
SEEDS = (0, 1, 2)
SHARED = dict(canvas=64, size=64, scale=(.6, 1.), batch=64)
ARMS = {'CLIP': ('clip', {}),
        'SF-CLIP': ('sfclip', dict(vision_teachers=('slotmim-real',), text_teacher='minilm')),
        'SF-CLIP, world teachers': ('sfclip', {})}
POOL, VAL, CIFAR = 20_000, 4000, 4000
SETTINGS = ('steps', 'pool', 'judged', 'shared', 'arms', 'device')     # rows of others are not mixed with these


class Named:
    "Pictures held in memory, each with its class name in one of the sentences"
    def __init__(self, data):
        rows = [data[i] for i in range(len(data))]
        self.frames = torch.stack([r['frames'] for r in rows])
        self.label = torch.tensor([int(r['label']) for r in rows])
        self.names = [class_name(n) for n in data.classes]

    def __len__(self): return len(self.frames)

    def batch(self, indices, device):
        "frames (B,1,3,H,W), aspect, caption: the sentence depends on the picture alone"
        index = torch.as_tensor(list(indices))
        captions = [TEMPLATES[i % len(TEMPLATES)].format(self.names[k])
                    for i, k in zip(index.tolist(), self.label[index].tolist())]
        return dict(frames=self.frames[index].to(device), aspect=torch.ones(len(index), device=device),
                    caption=captions)


def judged(method, sets, device):
    "metric → figure: accuracy of the nearest class name"
    found = {}
    for name, data in sets.items():
        images = sized(data.frames[:, 0], method.config.size)
        words = probes.word_classifier(method.embed_texts, class_prompts(unlike(data.names)))
        one = probes.zero_shot(embedded(method, images, device), data.label, words)
        found |= {f'{name}, top 1': one['accuracy'], f'{name}, top 5': one['top5'], f'{name}, chance': one['chance']}
    return found


def unlike(names):
    "Two classes of Tiny-ImageNet may share a first name: the later ones are numbered"
    return [f'{n} {names[:k].count(n) + 1}' if n in names[:k] else n for k, n in enumerate(names)]


def arm(name, steps, seed, pool, sets, device):
    "One run: the method, figures and seconds"
    method, changes = ARMS[name]
    config = catalog.replace_config(catalog.module(method).presets['cpu'], SHARED | changes | dict(steps=steps))
    start = time.time()
    run = train(method, config, pool, seed, device)
    return run, judged(run, sets, device) | dict(seconds=round(time.time() - start, 1))


def kept_rows(file, about):
    "Rows of an unfinished or shorter run with the same settings; [] where the file is of other settings"
    try: there = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError: return []
    same = json.loads(json.dumps(about, default=list))
    return there['rows'] if all(there.get(k) == same[k] for k in SETTINGS) else []


def main(argv=None):
    "Train, judge, write; a stopped command goes on after the last finished run"
    p = argparse.ArgumentParser(prog='python -m benchmarks.photo_words', description=__doc__.splitlines()[0])
    p.add_argument('--steps', type=int, default=1500)
    p.add_argument('--seeds', type=int, nargs='+', default=SEEDS)
    p.add_argument('--arms', nargs='+', default=tuple(ARMS), choices=tuple(ARMS))
    p.add_argument('--device')
    p.add_argument('--out', type=Path, default=RESULT)
    args = p.parse_args(argv)
    device = core.device(args.device)
    pool = Named(TinyImageNet(split='train', count=POOL))
    sets = {'Tiny-ImageNet': Named(TinyImageNet(split='val', count=VAL)),
            'CIFAR-10': Named(Cifar10(split='test', count=CIFAR, size=64))}
    again = provenance.command('benchmarks.photo_words', sys.argv[1:] if argv is None else argv)
    about = dict(what=__doc__.splitlines()[0], command=again, steps=args.steps, pool=POOL,
                 judged={k: len(v) for k, v in sets.items()}, shared=SHARED, arms=ARMS,
                 commit=provenance.commit('benchmarks/photo_words.py'), device=provenance.device_name(str(device)),
                 versions=provenance.versions())
    rows = kept_rows(args.out, about)
    for seed in args.seeds:
        for name in args.arms:
            if any(r['arm'] == name and r['seed'] == seed for r in rows): continue
            run, found = arm(name, args.steps, seed, pool, sets, device)
            twin = judged(probes.random_init(run, seed=seed), sets, device)
            rows += [dict(arm=name, seed=seed, **found), dict(arm=f'{name}, random init', seed=seed, **twin)]
            print(*rows[-2:], sep='\n', flush=True)
            provenance.write_json(args.out, about | dict(rows=rows))
    metrics = [k for k in rows[0] if k not in ('arm', 'seed', 'seconds')]
    for name in dict.fromkeys(r['arm'] for r in rows):
        means = {m: probes.interval([r[m] for r in rows if r['arm'] == name]) for m in metrics}
        print(f'{name:26}', {m: f'{v:.3f} ± {half:.3f}' for m, (v, half) in means.items()})


if __name__ == '__main__': main()
