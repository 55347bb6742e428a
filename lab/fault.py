"""What all faults have in common."""


class Fault:
    """One fault; `key` is its name in the network's rules."""

    def __init__(self, lab, chance, key):
        self.lab, self.chance, self.key = lab, chance, key
        self.detail = {}
        self.choose()

    # Alone it costs no ticket; one that is lost all the same is a failure.
    is_harmless = False
    # How long it lasts, if not as long as others.
    length_s = None

    def choose(self):
        raise NotImplementedError

    def touches(self):
        return {f"host {self.detail['member']}"}

    @property
    def machine(self):
        return self.lab.machines[self.detail["member"]]

    def any_member(self):
        """Holders more often than not: that is where it hurts."""
        holders = self.lab.holders()
        pool = holders if holders and self.chance.random() < 0.5 else list(self.lab.machines)
        return self.chance.choice(sorted(pool))

    def any_site(self):
        holders = self.lab.holders()
        pool = holders if holders and self.chance.random() < 0.7 else self.lab.sites
        return self.chance.choice(sorted(pool))
