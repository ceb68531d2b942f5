"""The losses as machine code for this processor.

`search` finds candidates for neighbours and `neighbour_lists` keeps them; both know positions and boxes. The kernels
(`kernel` with `polynomial`, `committee_kernel`) go from the neighbours in a list to losses and gradients. `losses` and
`committee` put the two together.
"""
