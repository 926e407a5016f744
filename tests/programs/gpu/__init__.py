"""From a bare machine with a GPU to a verdict, in eight minutes.

    python -m tests.programs.gpu --output runs/gpu              everything
    python -m tests.programs.gpu --only attention waiting       some sections
    python -m tests.programs.gpu --device cpu                   tiny sizes: shows that everything runs

It needs torch, transformers, safetensors and tokenizers, and neither data nor a network: models and
texts are made up. A check that fails is recorded and the others run; the table comes last, and
`results.json` has all numbers.

    parity      every head beside transformers, in fp32 without TF32, bf16 and fp16, and fp16 through an overflow
    attention   the varlen kernel beside the equation by hand in fp64, forward and backward
    waiting     nothing inside a step, a forward pass and prepared inference waits for the GPU
    speed       tokens a second beside transformers, and the share of the card's matrix peak
    repeat      resuming and DistributedDataParallel give the same bits
    graphs      CUDA graphs of the encoder beside the same passes without them
"""
