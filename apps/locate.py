"""Where in your own photo does a piece of it come from? `python apps/locate.py [PORT]`."""
import argparse
import sys
from functools import partial

import gradio as gr

from ssl_workbench import catalog, hub
from ssl_workbench.methods.loca import panels
from ssl_workbench.panels import picture_input, read_input

NAMES = [n for n, card in catalog.cards().items() if card['method'] == 'loca'] + ['loca' + hub.RANDOM]


def page():
    "The panel, its weights and its pictures"
    first = hub.example_files()[0]
    with gr.Blocks(title='SSL Workbench · Locate', analytics_enabled=False) as made:
        hub.header()
        gr.Markdown('A piece is cut out of the picture. A network sees the piece and **a part of the rest**, and says where it belongs. Click in the picture to move the box.', elem_classes='lead')
        pick = gr.Dropdown(NAMES, value=NAMES[0], label='Weights')
        photo = partial(picture_input, label='Drop your picture here', height=240)
        part = panels['locate'].app(examples=hub.example_files(), sources=dict(method=(pick, hub.model), image=(photo, lambda path: read_input('image', path or first))))
        hub.first_picture(made.load, part)
    return made.queue(max_size=128, default_concurrency_limit=4)


if __name__ == '__main__':
    words = argparse.ArgumentParser(description='Opens at a local address.')
    words.add_argument('port', type=int, nargs='?', help='default: the first free one from 7860')
    words.add_argument('--online', action='store_true', help='let the app look things up on the network')
    args = words.parse_args()
    try: hub.launch(args.port, page(), args.online)
    except ValueError as e: sys.exit(str(e))
