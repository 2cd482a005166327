"""The command `nets summary`."""

from nets.commands import cli
from nets.report import drawing, summary


def parser():
    parser = cli.parser("summary")
    cli.add_config(parser)
    parser.add_argument("--batch", type=cli.at_least(1), default=1, metavar="N", help="samples in a batch")
    parser.add_argument("--graph", action="store_true", help="print the net as a Mermaid flowchart instead")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = parser().parse_args(argv)
    conf = cli.load_config(args)
    if args.graph:
        print(drawing.mermaid(summary.empty_net(conf)))
    else:
        print(summary.table(summary.of(conf, args.batch)))
