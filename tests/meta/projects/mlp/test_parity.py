from policies import NewPolicy, OldPolicy

import parity

pair = parity.pair(
    "mlp",
    reference=OldPolicy,
    candidate=NewPolicy,
    observations=parity.Observations(shape=(6,), low=-1.0, high=1.0),
    actions=4,
)
globals().update(parity.tests_of(pair))
