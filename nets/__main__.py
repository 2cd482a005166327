"""`python -m nets COMMAND` is the same as the console command `nets COMMAND`."""

from nets.commands import main

if __name__ == "__main__":
    main()
