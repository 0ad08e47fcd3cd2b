"""Measures a training step, then every benchmark that is named, each as a command of its own."""
import subprocess
import sys

from benchmarks.speed import step
from benchmarks.speed.measure import options

MORE = {name: f'benchmarks.speed.{name}'
        for name in ('world', 'tokens', 'prediction', 'motion', 'visitors', 'codec', 'clips', 'cached_clips', 'sfclip')}
MORE['app'] = 'benchmarks.app'


def main(argv=None):
    "Exit code 2 for a benchmark that is not there"
    more = dict(nargs='*', help=f"benchmarks to run afterwards: {', '.join(MORE)}")
    args = options('benchmarks.speed', __doc__, argv, more=more, **step.OPTIONS)
    if missing := [m for m in args.more if m not in MORE]:
        print(f"there is no benchmark '{missing[0]}' here: choose among {', '.join(MORE)}", file=sys.stderr)
        return 2
    step.run(args)
    return max([subprocess.run([sys.executable, '-m', MORE[m]]).returncode for m in args.more], default=0)


if __name__ == '__main__': sys.exit(main())
