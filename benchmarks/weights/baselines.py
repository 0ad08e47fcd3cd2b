"""What bundled weights are compared with: other methods, trained on the same data for as long. They are not bundled."""
from benchmarks.weights.recipes import Recipe

SCENES = dict(level=3, canvas=192, pictures=8192)
ENCODER = dict(dims=(48, 64, 96), depths=(1, 2, 2), stem=(24, 48), out_dim=128)     # MC-JEPA's
recipes = {
    'mocov3-scenes': Recipe('mocov3', 'world:scene:3', changes=dict(
        SCENES, kind='scene', scale=(.3, 1.), colour=.2, grey=0., momentum=(.99, 1.), steps=5000)),
    'vicreg-scenes': Recipe('vicreg', 'world:scene:3', changes=dict(   # as many images a step as MC-JEPA: 4 · 4
        ENCODER, level=3, kind='scene', canvas=128, pictures=8192, batch=16, lr=1.5e-3, steps=6000)),
    'flowe-drive': Recipe('flowe', 'world:drive:2', changes=dict(
        level=2, canvas=128, channels=(16, 32, 64, 128), batch=16, steps=800, pictures=2048)),
    'videomae-motion': Recipe('videomae', 'world:motion:1', changes=dict(level=1, pictures=6000, steps=4400))}
