"""MC-JEPA's bundled weights: their recipe."""
from benchmarks.weights.machine import Recipe

PAIRS = 'world:scene:3@2*2+world:drive:3@1'
BIG = dict(level=3, canvas=128, pair_size=(96, 96), dims=(48, 64, 96), depths=(1, 2, 2), stem=(24, 48), levels=3, batch=4, many=4, out_dim=128,
           l1=3., structure=.5, window=1, smooth=2., edge=30., pictures=2048, lr=1.5e-3)
recipes = {'mcjepa': Recipe('mcjepa', PAIRS, changes=dict(BIG, content_kind='scene', steps=6000))}
