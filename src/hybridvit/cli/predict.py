"""hybridvit predict: what a checkpoint sees in pictures."""

import argparse
import csv
import sys
from pathlib import Path

from hybridvit.cli import pieces
from hybridvit.cli.options import add, chosen, refuse
from hybridvit.deploy.formats import ENGINES
from hybridvit.output import printable, to_json

HELP = """Say what a model sees in pictures, or in all pictures below a folder, or of a list, zip or tar file, or of a
saved Hugging Face data set. Exit code 1: some could not be read; they are reported, the others are predicted. With --out
they may be any number: the same command goes on after any interruption (docs/scale.md)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add(parser, "model", metavar="CHECKPOINT", type=Path, help="weights, or a file of `hybridvit export`")
    add(parser, "pictures", "--root", "--columns", "--top-k", "--batch")
    add(parser, "--workers", default=0)
    add(parser, "--device")
    how = "fused is faster on CPUs; the rest builds a graph"
    add(parser, "--engine", choices=ENGINES, default="eager", help=how)
    add(parser, "--tile", "--overlap")
    draw = "also write each picture to DIR with what is said of it: boxes, masks, words"
    add(parser, "--draw", metavar="DIR", type=Path, help=draw)
    form = parser.add_mutually_exclusive_group()
    add(form, "--json")
    add(form, "--csv", action="store_true", help="print CSV, one line per picture and class")
    pieces.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.out:
        refuse(args, "--tile", "--draw", "--json", "--csv", because="--out writes Parquet files")
        return pieces.run(args, give="predictions", top_k=args.top_k, engine=args.engine)
    refuse(args, *pieces.OPTIONS, because="it is for --out DIR")
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.data.unlabelled import open_unlabelled
    from hybridvit.inference.predict import predict
    from hybridvit.inference.predictor import Predictor
    from hybridvit.inference.tiles import Tiles

    pictures = open_unlabelled(args.pictures, root=args.root, columns=args.columns)
    predictor = Predictor(args.model, **chosen(args, "top_k", "device", "engine", "batch_size"))
    tiles = Tiles(predictor, side=args.tile, overlap=args.overlap) if args.tile else None
    with progress("predicting") as advance:
        if tiles:
            found = tiles.predict(pictures, on_picture=advance)
        else:
            found = predict(predictor, pictures, on_batch=advance, **chosen(args, "batch_size", "workers"))
    if args.draw:
        from hybridvit.inference.drawing import draw_predictions

        with progress("drawing") as advance:
            draw_predictions(predictor, pictures, args.draw, say=tiles.said if tiles else None, on_picture=advance)
    good = [row for row in found if row.ok]
    if args.json:
        rows = [{"path": row.path, **row.said} for row in good]
        broken = [row.path for row in found.broken]
        print(to_json({"counts": pictures.counts.to_dict(), "pictures": rows, "broken": broken}))
    elif args.csv:
        lines = found.ranked()
        writer = csv.DictWriter(sys.stdout, list(lines[0]) if lines else ["path"], lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else printable(str(v)) for k, v in line.items()})
    elif good:
        show(found.table())
    if not args.json:
        print(pictures.counts, file=sys.stderr)
    for row in found.broken:
        print(printable(f"Left out: {row.error}"), file=sys.stderr)
    return 1 if found.broken else 0
