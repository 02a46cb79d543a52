"""hybridvit convert: published weights become ours, and ours theirs."""

import argparse
import shlex
from pathlib import Path

from hybridvit.cli.options import add, chosen, refuse
from hybridvit.errors import ConfigError

HELP = """Turn any published CvT or CMT checkpoint into one of ours, and account for every tensor in it. A NAME of
`hybridvit models` in place of a file fetches published weights and checks them first; without OUT they stay in the
cache ($HYBRIDVIT_CACHE, or ~/.cache/hybridvit), where create_model(NAME, pretrained=True) finds them. --to goes the
other way: one of our checkpoints in a published implementation's own format."""
OF_FILES = ("--weights", "--num-classes", "--new-head", "--image-size", "--in-chans", "--arithmetic", "--architecture")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "any published checkpoint, one of ours, or a name: cvt_13.ms_in1k_384"
    add(parser, "file", metavar="FILE|NAME", help=what)
    add(parser, "target", metavar="OUT", type=Path, nargs="?", help="the checkpoint to write")
    add(parser, "--out", metavar="FILE", type=Path, help="the same as OUT")
    add(parser, "--from", dest="from_", metavar="FILE", type=Path, help="of a NAME: its file, fetched by other means")
    add(parser, "--to", metavar="SOURCE", help="write in the format of microsoft, transformers, paddleclas, huawei ...")
    add(parser, "--weights", "--num-classes")
    add(parser, "--new-head", action="store_true", help="drop the file's classifier for an untrained one")
    add(parser, "--image-size", nargs=2, metavar=("H", "W"), help="resize position tables to pictures of this size")
    add(parser, "--in-chans", "--architecture")
    how = "compute as the authors do, not as the file's source does: right for microsoft/cvt-* from the hub"
    add(parser, "--arithmetic", choices=("authors",), help=how)


def run(args: argparse.Namespace) -> int:
    from hybridvit.cli.progress import progress
    from hybridvit.cli.table import show
    from hybridvit.models.catalog import ARCHITECTURES
    from hybridvit.weights import convert
    from hybridvit.weights.download import fetch_to

    out = args.target or args.out
    is_name = args.file.partition(".")[0] in ARCHITECTURES or (out is None and Path(args.file).name == args.file)
    if args.from_ or (is_name and not Path(args.file).exists()):
        why = f"{args.file} is the name of published weights; convert its file next"
        refuse(args, "--to", *OF_FILES, because=why)
        name, licence, path = fetch_to(args.file, out, file=args.from_)
        print(f"{name} (licence: {licence})\n{path}")
        return 0
    if out is None:
        raise ConfigError("OUT is missing: the file to write.")
    if args.to:
        refuse(args, *OF_FILES, because="--to writes a checkpoint of ours as it is")
        for note in convert.export_weights(args.file, args.to, out):
            print(f"note  {note}")
        print(f"Wrote {out}.")
        return 0
    how = chosen(args, "weights", "num_classes", "new_head", "in_chans", "arithmetic", "architecture")
    how["image_size"] = tuple(args.image_size) if args.image_size else None
    with progress("tensors") as advance:
        report = convert.convert(args.file, out, progress=advance, **how)
    show(*report.describe())
    print(f"Wrote {out}. Evaluate it: hybridvit eval {shlex.quote(str(out))} --data DIR")
    return 0
