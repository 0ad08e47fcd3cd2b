"""What bundled weights are compared with: other methods, trained on the same data for as long. They are not bundled."""
from benchmarks.weights.machine import Recipe

SCENES = dict(level=3, canvas=192, pictures=8192)
recipes = {
    'mocov3-scenes': Recipe('mocov3', 'world:scene:3', changes=dict(SCENES, kind='scene', scale=(.3, 1.), colour=.2, grey=0., momentum=(.99, 1.), steps=5000))}
