"""minibert: a from-scratch BERT to read, trust, train and take apart.

The shape legend, used everywhere and never redefined:

    B  sequences in a batch              D  hidden_size
    S  columns of the padded batch       N  attention heads
    T  real tokens in the batch          H  head size, D = N * H
    L  layers                            F  intermediate_size
    V  vocabulary                        C  classes
"""
