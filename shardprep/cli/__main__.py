"""`python -m shardprep.cli`."""

from shardprep.cli.app import main

main()
