"""hybridvit download: a published set of weights becomes a checkpoint on this machine."""

import argparse
from pathlib import Path

HELP = """Fetch published weights, check them and convert them. Without --out they stay in the cache ($HYBRIDVIT_CACHE, or
~/.cache/hybridvit), where create_model(NAME, pretrained=True) finds them. `hybridvit models` lists what there is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a model (cvt_13) or a set of weights (cvt_13.ms_in1k_384)")
    parser.add_argument(
        "--from", dest="file", metavar="FILE", type=Path, help="the published file, fetched by other means"
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the checkpoint here as well")


def run(args: argparse.Namespace) -> int:
    import shutil

    from hybridvit.errors import DownloadError
    from hybridvit.files import replacing
    from hybridvit.models.catalog import WEIGHTS
    from hybridvit.weights.download import download, find_weights

    tagged = find_weights(args.name)
    path = download(tagged, file=args.file)
    if args.out:
        try:
            with replacing(args.out) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise DownloadError(f"{args.out} cannot be written: {error}") from error
        path = args.out
    print(f"{tagged} (licence: {WEIGHTS[tagged].licence})\n{path}")
    return 0
