"""Train a config's net with hand-written backprop: python train.py [CONFIG].

On several processes: torchrun --nproc-per-node N train.py [CONFIG].
"""

from pathlib import Path

from nets.commands import cli
from nets.distributed.alive import watched
from nets.distributed.world import join
from nets.training import config, trainer


def main():
    parser = cli.parser(__doc__)
    parser.add_argument("config", nargs="?", default="configs/digits.toml", metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override a key")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, help="override the config's seed")
    parser.add_argument("--out", default="runs", metavar="DIR", help="runs go to DIR/<name>/")
    parser.add_argument("--data-root", metavar="DIR", help="override data.root")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, if any")
    parser.add_argument("--force", action="store_true", help="begin anew over a run that is there")
    args = parser.parse_args()
    if args.seed is not None:
        args.set.append(f"seed={args.seed}")
    if args.data_root is not None:
        args.set.append(f"data.root={config.toml(args.data_root)}")
    conf = config.load(args.config, args.set)
    with watched(join(args.device)) as world:
        run = trainer.Run(conf, world.device, Path(args.out) / conf.name, world)
        result = run.train(args.resume, args.force)
        if world.first:
            print(result.line())


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
