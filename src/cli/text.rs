//! The longer texts of `--help`.

use crate::terminal::exit::Exit;

/// `examples`, followed by all exit codes.
#[must_use]
pub(crate) fn with_exit_codes(examples: &str) -> String {
    format!("{examples}\n\n{}", Exit::table())
}

/// What this is.
pub(crate) const ABOUT: &str = "\
Decides which site of a formation may run what

A ticket is the right to run a set of resources. At most one site holds it; if that site is lost, it fences itself, and \
another one takes over. Commands write down what you want, wait until it holds, and say what they wait for.";

pub(crate) const EXAMPLES: &str = "\
Examples:
  sitegate playground             try all of this, without any configuration
  sitegate status                 who holds what, until when, who is reachable
  sitegate grant db --site paris  paris holds db, or others if paris is lost
  sitegate move db --to lyon      lyon holds it instead
  sitegate explain db             why is it where it is?";

pub(crate) const STATUS: &str = "\
Examples:
  sitegate status
  sitegate status db --json
  sitegate status --watch
  sitegate status db --consistent
  sitegate status --member tiebreak.example.net

What a member tells is what it knows; it may lag behind by a heartbeat or two, or by more if it is cut off. --consistent \
asks a majority about one ticket, and fails if there is none.

UNTIL: if the holder is asked, how long it goes on unless it is renewed; if another member is asked, for how long that one \
guards the lease, which is to say votes for no other site unless the holder gives the ticket up.";

pub(crate) const EXPLAIN: &str = "\
Example:
  sitegate explain db

Says who has promised what, which lease or guard runs until when, which check failed, and what would happen next and when, \
as the member that is asked sees it.";

pub(crate) const HISTORY: &str = "\
Examples:
  sitegate history
  sitegate history db --limit 20
  sitegate history --json | jq .text

Every member keeps its own history: what it decided and why, and who gave which command.";

pub(crate) const SIMULATE_ABOUT: &str = "\
Simulate a formation: failovers, losses, what failures cost

Runs the protocol and the fence daemon's deadman as they are shipped, with your members, tickets and times, on simulated \
machines with a simulated network, thousands of times faster than real. Needs no daemon, and touches nothing.";

pub(crate) const SIMULATE: &str = "\
Examples:
  sitegate simulate
  sitegate simulate /etc/sitegate/formation.toml
  sitegate simulate formation.toml --loss 5% --delay 80ms --seconds 2000000
  sitegate simulate formation.toml --json | jq .tickets

A frame that is lost is lost for good here, and machines that fail lose their power; TCP resends what a real network loses, \
which costs time and not the frame.

Exit codes: 0 shown, 5 the formation is invalid, 8 the simulation broke an invariant: please report it.";

pub(crate) const VERIFY_ABOUT: &str = "\
Prove from the members' journals that no two tenures overlapped

Reads the journals of all members, checks their hash chains, orders what happened by what must have led to what, and shows \
for every tenure of every ticket that it had ended when the next began, or where it had not. Needs no daemon.";

pub(crate) const VERIFY: &str = "\
Examples:
  sitegate verify paris/journal lyon/journal tiebreak/journal
  sitegate verify paris=paris.jsonl lyon=lyon.jsonl --clock-uncertainty 0s
  sitegate verify */journal --ticket db --json | jq .verdict

Give what lies in `journal` below a member's state-dir, what /v1/journal gave, or what `sitegate history --json` printed. \
`proven` is shown; `consistent` means that nothing contradicts it and something is missing, which it says.

Exit codes: 0 proven or consistent, 8 tenures overlapped or another check failed, 9 a journal cannot be used.";

pub(crate) const RUN_ABOUT: &str = "\
Run a command while this site holds a ticket, and end it in time

Waits until the ticket is held here, runs the command with SITEGATE_TICKET and SITEGATE_TOKEN in its environment, and exits with \
its exit code. When the ticket is taken away or lost, the command gets SIGTERM, and whatever is left of it is killed by this \
site's fence daemon before another site takes over, also if `sitegate run` itself has died.";

pub(crate) const RUN: &str = "\
Examples:
  sitegate run --ticket batch -- /usr/local/bin/nightly --all
  sitegate run --ticket web --again -- /usr/sbin/nginx -g 'daemon off;'
  sitegate run --ticket db -- sh -c 'echo under token $SITEGATE_TOKEN'

fenced.toml has to let your user join the ticket: join = { uid = [1000] } in [resource.TICKET].

Exit codes: that of the command (128 and the signal's number if a signal ended it); 124 the ticket was lost, 126 the command \
cannot be executed, 127 there is no such command; 1, 3, 6 and 7 as below `sitegate --help`, before anything has run.";

pub(crate) const GRANT_ABOUT: &str = "\
Let a site hold a free ticket, or another one should it be lost

The site runs its checks, a majority agrees, the site's fence daemon is armed, and the resources are started. The grant \
lasts until it is revoked: if the site is lost, another one takes the ticket over.";

pub(crate) const GRANT: &str = "\
Examples:
  sitegate grant db --site paris
  sitegate grant db --site paris --no-wait --reason \"change 4711\"

Waits until the site holds the ticket, with its fence daemon armed, and has been heard since the command was given. Refused if another site holds it (move it instead), if \
it is paused, or if the site is on standby or does not pass its checks.

Exit codes: 0 the site holds it, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const REVOKE_ABOUT: &str = "\
Let nobody hold a ticket

The holder stops its resources (the hook `stop`, minutes if need be), then its fence plan makes certain, then it gives the \
ticket up. A holder that cannot be reached fences by itself; the others wait until it must have.";

pub(crate) const REVOKE: &str = "\
Examples:
  sitegate revoke db
  sitegate revoke db --timeout 10m --reason \"migration\"

Waits until nothing of it runs anywhere and no tenure can begin. A revoke stays in force through restarts of everything, \
until the next grant.

Exit codes: 0 nobody holds it, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const MOVE_ABOUT: &str = "\
Let another site hold a ticket

First the other site is asked, and its checks must pass, or nothing is touched. Then the holder stops, fences and gives the \
ticket up, and the other site takes it.";

pub(crate) const MOVE: &str = "\
Examples:
  sitegate move db --to lyon

Waits until the other site holds it and has been heard since. If that dies meanwhile, any willing site takes the ticket.

Exit codes: 0 the site holds it, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const PAUSE_ABOUT: &str = "\
Bar new tenures of a ticket; one that runs goes on

For maintenance: nothing is taken over while it lasts, not even by the same site. The holder goes on as long as it can renew; \
if it loses the ticket, it fences as always, and nobody takes it.";

pub(crate) const PAUSE: &str = "\
Example:
  sitegate pause db --reason \"storage migration\"

Waits until no tenure can begin any more. `sitegate resume` ends it.

Exit codes: 0 paused, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const RESUME: &str = "\
Example:
  sitegate resume db

Also ends the pause that a ticket gives itself after too many takeovers.";

pub(crate) const STANDBY_ABOUT: &str = "\
Let a site take no tickets, and keep none

What it holds is stopped, fenced and taken over by other sites. With --keep it keeps what it has and takes nothing new.";

pub(crate) const STANDBY: &str = "\
Examples:
  sitegate standby paris
  sitegate standby paris --keep

Waits until the site holds nothing (with --keep: until it can take nothing new). `sitegate online` ends it.

Exit codes: 0 it holds, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const ONLINE: &str = "\
Example:
  sitegate online paris

Nothing moves back by itself, unless a ticket says `failback = true`.";

pub(crate) const ATTEST_ABOUT: &str = "\
Vouch that a lost site is dead, so that others need not wait

You vouch that nothing of the site's tickets runs there any more, and that nothing will start there by itself. The other \
members then hand its tickets on without waiting for it to fence. If you are wrong, two sites run the same thing at once, \
and data may be lost. sitegate cannot check this. Your name and your reason are kept in the history.

It takes a majority all the same, and is refused while any member still hears the site.";

pub(crate) const ATTEST: &str = "\
Examples:
  sitegate attest-dead lyon --reason \"switched off at the rack, seen by Ann\"
  sitegate attest-dead lyon --ticket db --yes-i-have-seen-it-dead \\
      --reason \"power cut off by the PDU\"

Asks twice on a terminal. Needed where takeover is `confirmed`; elsewhere it saves the waiting.

Exit codes: 0 its tickets are free for others, 1 refused or not confirmed, 3 nobody answers, 4 not yet.";

pub(crate) const READMIT_ABOUT: &str = "\
Take back a member that lost its disk

A member whose state was lost comes back with a new identity. The others do not count its votes: it may have forgotten what \
it had promised. Once you know that it is the machine you expect, readmit it.";

pub(crate) const READMIT: &str = "\
Example:
  sitegate member readmit lyon --reason \"new disk\"

Takes more than half of all members, the readmitted one not counted: both others of three, all three others of four. It is \
impossible with two members. The member votes again once it has learnt what the others know and every lease that it may have \
forgotten has ended.

Exit codes: 0 it is back, 1 refused, 3 nobody answers, 4 not yet: it may still come true.";

pub(crate) const CHECK: &str = "\
Examples:
  sitegate check
  sitegate check ./conf --json

Asks no daemon: reads formation.toml, and member.toml and fenced.toml if they are there.

Exit codes: 0 good, 5 invalid, or a promise would be broken.";

pub(crate) const RELOAD: &str = "\
Examples:
  sitegate reload
  sitegate check && sitegate reload

Takes tickets, hooks, certificates and addresses from the files. If anything is wrong with them, nothing changes. fenced.toml \
belongs to sitegate-fenced: `systemctl reload sitegate-fenced`.

Exit codes: 0 reloaded, 3 nobody answers, 5 invalid: the old configuration stays in force.";

pub(crate) const INIT_ABOUT: &str = "\
Create this member's identity and store, once

Run it on every new member before its daemon is started for the first time. The daemons only open what this created: a \
store that has vanished is an error there, never a first start, since a member that has forgotten its promises must not vote.";

pub(crate) const INIT: &str = "\
Examples:
  sitegate init
  sitegate init --config ./conf

On arbitrators without this program: sitegate-arbitrator init. Refused if there is a store already.

Exit codes: 0 created, 1 there is one already, 5 the configuration is invalid, 7 it could not be written.";

pub(crate) const PLAYGROUND_ABOUT: &str = "\
Try and judge a whole formation on this machine

Makes a temporary directory with a CA, certificates and configuration, and starts the daemons of two sites, paris and lyon, \
and of an arbitrator, tiebreak, on loopback. The ticket db gates a process that writes to a shared file. Without --scenario \
it shows live what happens, and commands to try from a second terminal, until Ctrl-C; nothing is left behind.";

pub(crate) const PLAYGROUND: &str = "\
Examples:
  sitegate playground
  sitegate playground --scenario daemon-killed
  sitegate playground --scenario all --json
  sitegate playground --figures

Scenarios are judged from the shared file and the process table, never from what a daemon says.

Exit codes: 0 everything held, 1 something did not, 7 it could not be played.";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  sitegate completions bash > /etc/bash_completion.d/sitegate
  sitegate completions zsh > ~/.zfunc/_sitegate
  sitegate completions fish > ~/.config/fish/completions/sitegate.fish";
