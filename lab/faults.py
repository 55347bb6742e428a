"""The kinds of faults, by name.

A fault `begin`s, lasts, and is `heal`ed; after `heal` has returned, nothing of it is left but what the system has to put right
itself. Two faults that `touch` the same thing are never there at once: so what is healed is healed.
"""

import fault_machine as machine
import fault_network as network


def signalled(base, which):
    return type(f"{base.__name__}_{which}", (base,), {"which": which, "__doc__": base.__doc__})


KINDS = {
    "partition": network.PartitionOne, "partition-in": network.PartitionIn, "partition-out": network.PartitionOut,
    "partition-halves": network.PartitionHalves, "partition-pair": network.PartitionPair,
    "partition-pair-one-way": network.PartitionPairOneWay,
    "loss": network.Loss, "delay": network.Delay, "rate": network.Rate, "flood": network.Flood,
    "forged": network.Forged,
    "kill-sitegated": signalled(machine.Killed, "sitegated"), "kill-fenced": signalled(machine.Killed, "sitegate-fenced"),
    "kill-both": signalled(machine.Killed, "both"), "kill-arbitrator": signalled(machine.Killed, "arbitrator"),
    "down-sitegated": signalled(machine.Down, "sitegated"), "down-arbitrator": signalled(machine.Down, "arbitrator"),
    "freeze-sitegated": signalled(machine.Frozen, "sitegated"), "freeze-fenced": signalled(machine.Frozen, "sitegate-fenced"),
    "freeze-both": signalled(machine.Frozen, "both"), "freeze-arbitrator": signalled(machine.Frozen, "arbitrator"),
    "log-stuck": machine.LogStuck, "fenced-stalls": machine.FencedStalls,
    "power-cut": machine.PowerCut, "other-clocks": machine.OtherClocks,
    "disk-full": machine.DiskFull, "disk-read-only": machine.DiskReadOnly, "disk-error": machine.DiskError,
    "disk-frozen": machine.DiskFrozen,
}
