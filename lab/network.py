"""The lab's network: a namespace for every member on one bridge, which drops what the faults of the moment say.

Nothing of the host's network is touched, and no packet leaves the namespaces. Drops happen in the bridge, so a sender sees
silence and never an error; neighbour entries are permanent, so a cut never turns into failing ARP.
"""

import re
import subprocess

PREFIX = "10.77.0"
SWITCH = "sw0"


def run(argv, feed=None):
    done = subprocess.run(argv, input=feed, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def address(node):
    return f"{PREFIX}.{node}"


def mac(node):
    return f"02:77:00:00:00:{node:02x}"


class Network:
    """Nodes 1 to `nodes`; the last one is a stranger, from which floods and forged packets come."""

    def __init__(self, name, nodes):
        self.name, self.nodes = name, nodes
        self.switch = f"{name}-sw"
        self.rules = {}

    def namespace(self, node):
        return f"{self.name}-n{node}"

    def enter(self, node):
        """What to put in front of a command that runs on a node."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(node)}"]

    def enter_switch(self):
        return ["nsenter", f"--net=/run/netns/{self.switch}"]

    def make(self):
        run(["ip", "netns", "add", self.switch])
        self.in_switch("ip", "link", "add", "name", SWITCH, "type", "bridge")
        self.in_switch("ip", "link", "set", SWITCH, "up")
        everybody = range(1, self.nodes + 1)
        for node in everybody:
            self.join(node)
        for node in everybody:
            others = "".join(
                f"neigh replace {address(other)} lladdr {mac(other)} dev eth0 nud permanent\n"
                for other in everybody if other != node)
            run(["ip", "-n", self.namespace(node), "-batch", "-"], others)
        self.in_switch("nft", "-f", "-", feed=(
            "table bridge lab {\nchain faults { }\nchain switch {\ntype filter hook forward priority 0; policy accept;\n"
            # A delayed node's frames pass a second bridge, where they must not be judged again.
            'iifname "near*" accept\noifname "near*" accept\njump faults\n}\n}\n'))

    def join(self, node):
        namespace = self.namespace(node)
        run(["ip", "netns", "add", namespace])
        run(["ip", "link", "add", "name", "eth0", "netns", namespace, "address", mac(node),
             "type", "veth", "peer", "name", f"p{node}", "netns", self.switch])
        run(["ip", "-n", namespace, "-batch", "-"],
            f"link set lo up\naddr add {address(node)}/24 dev eth0\nlink set eth0 up\n")
        self.in_switch("ip", "link", "set", f"p{node}", "master", SWITCH, "up")

    def in_switch(self, *argv, feed=None):
        return run(["ip", "netns", "exec", self.switch, *argv], feed)

    # Faults: each has a key, and rules that hold until it is healed.

    def drop(self, key, rules):
        self.rules[key] = rules
        self.apply()

    def heal(self, key):
        if self.rules.pop(key, None) is not None:
            self.apply()

    def apply(self):
        """All rules at once, in one transaction of the kernel's."""
        lines = ["flush chain bridge lab faults"]
        lines += [f"add rule bridge lab faults {rule}" for rules in self.rules.values() for rule in rules]
        self.in_switch("nft", "-f", "-", feed="\n".join(lines) + "\n")

    def hits(self):
        """Packets that rules with a counter have met."""
        text = self.in_switch("nft", "list", "chain", "bridge", "lab", "faults")
        return sum(map(int, re.findall(r"counter packets (\d+)", text)))

    @staticmethod
    def cut_in(node):
        return [f"ether daddr {mac(node)} drop"]

    @staticmethod
    def cut_out(node):
        return [f"ether saddr {mac(node)} drop"]

    @staticmethod
    def one_way(sender, receiver):
        return [f"ether saddr {mac(sender)} ether daddr {mac(receiver)} drop"]

    @staticmethod
    def loss(percent):
        return [f"numgen random mod 100 < {percent} drop"]

    # Slow links.

    def limit(self, node, kbit):
        """Both ways, with room for 400 ms."""
        shape = ["root", "tbf", "rate", f"{kbit}kbit", "burst", "1600", "latency", "400ms"]
        self.in_switch("tc", "qdisc", "replace", "dev", f"p{node}", *shape)
        run(["tc", "-n", self.namespace(node), "qdisc", "replace", "dev", "eth0", *shape])

    def unlimit(self, node):
        self.in_switch("tc", "qdisc", "del", "dev", f"p{node}", "root")
        run(["tc", "-n", self.namespace(node), "qdisc", "del", "dev", "eth0", "root"])

    def detour(self, node):
        """Leads a node's frames over two taps that relay.py holds, on their way to the bridge."""
        run(["ip", "-n", self.switch, "-batch", "-"], (
            f"link add name b{node} type bridge\nlink set b{node} up\n"
            f"link set near{node} master b{node} up\nlink set far{node} master {SWITCH} up\n"
            f"link set p{node} nomaster\nlink set p{node} master b{node}\n"))

    def straighten(self, node):
        run(["ip", "-n", self.switch, "-batch", "-"], (
            f"link set p{node} nomaster\nlink set p{node} master {SWITCH}\nlink del b{node}\n"))
