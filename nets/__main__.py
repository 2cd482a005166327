"""python -m nets COMMAND: the same as the console command `nets`."""

from nets.commands import main

if __name__ == "__main__":
    main()
