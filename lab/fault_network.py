"""Faults of the network: cuts, loss, slow lines, floods."""

import subprocess

from fault import Fault
from machine import HERE, PYTHON
from network import address

RELAY_S_MAX = 10


class Cut(Fault):
    """Packets of some pairs vanish."""

    def touches(self):
        return {f"net {name}" for name in self.detail["members"]}

    def node(self, name):
        return self.lab.machines[name].node

    def begin(self):
        self.lab.network.drop(self.key, self.rules())

    def heal(self):
        self.lab.network.heal(self.key)


class PartitionOne(Cut):
    """One member hears nobody, and nobody hears it."""

    def choose(self):
        self.detail = {"members": [self.any_member()]}

    def rules(self):
        node = self.node(self.detail["members"][0])
        return self.lab.network.cut_in(node) + self.lab.network.cut_out(node)


class PartitionIn(PartitionOne):
    """One member sends, and hears nobody."""

    def rules(self):
        return self.lab.network.cut_in(self.node(self.detail["members"][0]))


class PartitionOut(PartitionOne):
    """One member hears, and nobody hears it."""

    def rules(self):
        return self.lab.network.cut_out(self.node(self.detail["members"][0]))


class PartitionHalves(Cut):
    """The members fall into two groups."""

    def choose(self):
        names = list(self.lab.machines)
        self.chance.shuffle(names)
        self.detail = {"members": sorted(names), "group": sorted(names[:len(names) // 2])}

    def rules(self):
        group = self.detail["group"]
        others = [name for name in self.detail["members"] if name not in group]
        return [rule for a in group for b in others for rule in self.both_ways(a, b)]

    def both_ways(self, a, b):
        one_way = self.lab.network.one_way
        return one_way(self.node(a), self.node(b)) + one_way(self.node(b), self.node(a))


class PartitionPair(PartitionHalves):
    """Two members do not hear each other; everybody else hears both."""

    def choose(self):
        self.detail = {"members": sorted(self.chance.sample(sorted(self.lab.machines), 2))}

    def rules(self):
        return self.both_ways(*self.detail["members"])


class PartitionPairOneWay(PartitionPair):
    """One member does not hear one other."""

    def rules(self):
        a, b = self.detail["members"]
        return self.lab.network.one_way(self.node(a), self.node(b))


class Loss(Cut):
    """Every packet is lost with the same chance, up to one half."""

    def choose(self):
        self.detail = {"percent": self.chance.choice([5, 10, 20, 30, 40, 50])}

    def touches(self):
        return {"net all"}

    def rules(self):
        return self.lab.network.loss(self.detail["percent"])


class Delay(Fault):
    """One member's packets take longer, and overtake each other."""

    def choose(self):
        self.detail = {"member": self.any_member(), "delay_ms": self.chance.choice([5, 20, 50, 100, 200]),
                       "jitter_ms": self.chance.choice([0, 10, 50, 200])}

    def touches(self):
        return {f"link {self.detail['member']}"}

    def begin(self):
        node, network = self.machine.node, self.lab.network
        self.relay = subprocess.Popen(
            [*network.enter_switch(), *PYTHON, str(HERE / "relay.py"), f"near{node}", f"far{node}", str(self.detail["delay_ms"]),
             str(self.detail["jitter_ms"]), str(self.chance.randrange(1 << 30))],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
        if self.relay.stdout.readline() != "ready\n":
            raise RuntimeError("the relay does not come up")
        network.detour(node)

    def heal(self):
        self.lab.network.straighten(self.machine.node)
        self.relay.kill()
        self.relay.wait(RELAY_S_MAX)


class Rate(Fault):
    """One member's line carries little."""

    def choose(self):
        self.detail = {"member": self.any_member(), "kbit": self.chance.choice([16, 32, 64, 256])}

    def touches(self):
        return {f"rate {self.detail['member']}"}

    def begin(self):
        self.lab.network.limit(self.machine.node, self.detail["kbit"])

    def heal(self):
        self.lab.network.unlimit(self.machine.node)


class Flood(Fault):
    """A stranger floods a member's port with connections and garbage."""

    def choose(self):
        self.detail = {"member": self.any_member()}

    def touches(self):
        return {"stranger"}

    def begin(self):
        network = self.lab.network
        line = [*network.enter(network.nodes), *PYTHON, str(HERE / "flood.py"), address(self.machine.node),
                str(self.lab.formation.port), str(self.chance.randrange(1 << 30))]
        self.flood = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def heal(self):
        self.flood.kill()
        self.flood.wait(RELAY_S_MAX)


class Forged(Fault):
    """A stranger on the wire sends all packets to some members again, as they were and bent."""

    def choose(self):
        names = sorted(self.lab.machines)
        self.detail = {"to": sorted(self.chance.sample(names, self.chance.randint(1, len(names))))}

    def touches(self):
        return {"stranger"}

    def begin(self):
        network = self.lab.network
        line = [*network.enter_switch(), *PYTHON, str(HERE / "replay.py"), str(network.nodes), str(self.chance.randrange(1 << 30)),
                *(str(self.lab.machines[name].node) for name in self.detail["to"])]
        self.replay = subprocess.Popen(line, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        if self.replay.stdout.readline() != "ready\n":
            raise RuntimeError("nobody forges packets")

    def heal(self):
        self.replay.kill()
        self.replay.wait(RELAY_S_MAX)
