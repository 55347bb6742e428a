"""The faults of the comparison, the same for every system: paris holds all tickets, then one thing happens.

Each is a function of the lab that hurts, holds on long enough for a failover to come, heals, and holds on again. What came
of it is read from the shared file alone.
"""

import time

import harms
from fault_network import Flood, Forged

HOLDER, OTHER = "paris", "lyon"
# On top of E + A: long enough for either system's rounds.
BEYOND_S, AFTER_S = 6.0, 6.0
LOSS_S, SLOW_S = 60.0, 40.0


def hold(lab, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lab.look()
        time.sleep(0.05)


def over(lab):
    """Until a failover must have come."""
    hold(lab, lab.options.times.expire_s + lab.options.times.acquire_after_s + BEYOND_S)


def through(harm, lab):
    """One of `harms.py`, and healed after the failover."""
    with harm(lab, lab.machines[HOLDER]):
        over(lab)
    hold(lab, AFTER_S)


def daemon_killed(lab):
    """SIGKILL to the holder's daemon, which stays down; the machine and its network are well."""
    through(harms.daemon_killed, lab)


def daemon_frozen(lab):
    """SIGSTOP to the holder's daemon, SIGCONT after the failover."""
    through(harms.daemon_frozen, lab)


def host_dead(lab):
    """The holder's machine dies, and boots after the failover."""
    through(harms.host_dead, lab)


def fork_bomb(lab):
    """The holder's daemon is killed, while a hundred processes of a user fork without end there."""
    through(harms.fork_bomb, lab)


def cut(lab, rules):
    lab.network.drop("cut", rules)
    over(lab)
    lab.network.heal("cut")
    hold(lab, AFTER_S)


def partition(lab):
    """The holder is cut off."""
    through(harms.cut_off, lab)


def cut_between(lab):
    """The holder is cut off between the two halves of a renewal.

    booth: after the heartbeat round, before its update. Here: others hear a heartbeat, its answers are lost, then nothing goes.
    """
    node = lab.machines[HOLDER].node
    if lab.formation.name == "booth":
        # The command in booth's header: OP_UPDATE.
        lab.network.drop("half", [f"{lab.network.cut_out(node)[0].removesuffix(' drop')} udp dport 9929 "
                                  "@th,288,32 0x55706445 counter drop"])
        limit = time.monotonic() + 2 * lab.options.times.expire_s
        while not lab.network.hits() and time.monotonic() < limit:
            time.sleep(0.005)
    else:
        lab.network.drop("half", lab.network.cut_in(node))
        hold(lab, lab.options.times.heartbeat_s)
    lab.network.drop("cut", lab.network.cut_in(node) + lab.network.cut_out(node))
    lab.network.heal("half")
    partition(lab)


def deaf(lab):
    """The holder sends, and hears nobody."""
    cut(lab, lab.network.cut_in(lab.machines[HOLDER].node))


def mute(lab):
    """The holder hears, and nobody hears it."""
    cut(lab, lab.network.cut_out(lab.machines[HOLDER].node))


def loss(lab, percent):
    lab.network.drop("loss", lab.network.loss(percent))
    hold(lab, LOSS_S)
    lab.network.heal("loss")
    hold(lab, AFTER_S)


def loss_30(lab):
    """30 % of all packets are lost for a minute."""
    loss(lab, 30)


def loss_50(lab):
    """Half of all packets are lost for a minute."""
    loss(lab, 50)


def slow_command(lab):
    """What the daemon runs at the holder to act on its cluster takes 3 s longer, on a healthy network."""
    flag = lab.machines[HOLDER].writers / "slow"
    flag.touch()
    hold(lab, SLOW_S)
    flag.unlink()
    hold(lab, AFTER_S)


def flood(lab):
    """A stranger holds up to 1200 connections to the holder's port, and sends garbage."""
    fault = Flood(lab, lab.chance, "flood")
    fault.detail = {"member": HOLDER}
    fault.begin()
    hold(lab, SLOW_S)
    fault.heal()
    hold(lab, AFTER_S)


def forge(lab, victims):
    fault = Forged(lab, lab.chance, "forged")
    fault.detail = {"to": victims}
    fault.begin()
    hold(lab, SLOW_S / 2)
    partition(lab)
    fault.heal()
    hold(lab, AFTER_S)


def forged(lab):
    """The holder is cut off, and a stranger sends everybody again what was sent to them up to 12 s ago, as it was and bent."""
    forge(lab, sorted(lab.machines))


def forged_to_holder(lab):
    """The same to the holder alone."""
    forge(lab, [HOLDER])


SCENARIOS = {function.__name__.replace("_", "-"): function for function in (
    daemon_killed, daemon_frozen, host_dead, fork_bomb, partition, cut_between, deaf, mute, loss_30, loss_50, slow_command, flood,
    forged, forged_to_holder)}
