"""`python -m vlm2vec`, and what `torchrun -m vlm2vec` starts."""

from vlm2vec.cli.app import main

main()
