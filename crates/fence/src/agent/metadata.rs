//! What an agent says of itself: `action=metadata`, an XML document.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use roxmltree::{Document, Node, ParsingOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use sitegate_host::spawn::{base_environment, input, why_not_started};

use super::Action;
use crate::store::with_causes;

/// How long an agent may take to describe itself: most are Python, and a busy machine reads a lot from its disk for that.
pub(super) const WITHIN: Duration = Duration::from_secs(10);
/// The most that one may say, in bytes; the longest of version 4.12 says 35 000.
const BYTES_MAX: usize = 1024 * 1024;
/// The most elements, attributes and texts, so that a million bytes do not become a hundred millions.
const NODES_MAX: u32 = 50_000;
/// How deep the elements may lie: `resource-agent` / `parameters` / `parameter` / `content` / `option`, and room.
const DEPTH_MAX: usize = 32;
/// How much of what it writes on stderr is kept for the error, in bytes.
const STDERR_BYTES_MAX: usize = 300;

/// What matters of it here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) parameters: BTreeMap<String, Parameter>,
    pub(super) actions: BTreeSet<String>,
}

/// An option that an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameter {
    /// It has to be given: required, not deprecated, and without a default.
    pub(super) required: bool,
    /// The older name for the same.
    pub(super) obsoletes: Option<String>,
}

impl Metadata {
    /// Asks `program`. Blocks, at most for [`WITHIN`] and the death of what it has started.
    ///
    /// # Errors
    /// Why there is none, as a sentence that goes on from the agent's name.
    pub(super) fn ask(program: &Path, within: Duration) -> Result<Self, String> {
        let said = output(program, within)?;
        let said = String::from_utf8(said).map_err(|_| "describes itself in no UTF-8".to_owned())?;
        Self::parse(&said).map_err(|why| format!("describes itself in no XML that can be used: {why}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        shallow(text)?;
        let options =
            ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(format!("it begins with <{}>", root.tag_name().name()));
        }
        let named = |tag: &'static str| {
            root.descendants()
                .filter(move |node| node.has_tag_name(tag))
                .filter_map(|node| Some((node.attribute("name")?, node)))
        };
        let parameters = named("parameter").map(|(name, node)| (name.to_owned(), parameter(node))).collect();
        let actions = named("action").map(|(name, _)| name.to_owned()).collect();
        Ok(Self { parameters, actions })
    }

    /// All names of the option `name`: its own, the one that it replaces, and the ones that replace it.
    pub(super) fn names<'a>(&'a self, name: &'a str) -> BTreeSet<&'a str> {
        let older = self.parameters.get(name).and_then(|parameter| parameter.obsoletes.as_deref());
        let newer =
            self.parameters.iter().filter(|(_, parameter)| parameter.obsoletes.as_deref() == Some(name));
        [name].into_iter().chain(older).chain(newer.map(|(name, _)| name.as_str())).collect()
    }
}

fn parameter(node: Node<'_, '_>) -> Parameter {
    let is = |attribute: &str| node.attribute(attribute) == Some("1");
    let has_default =
        node.children().any(|child| child.has_tag_name("content") && child.has_attribute("default"));
    Parameter {
        required: is("required") && !is("deprecated") && !has_default,
        obsoletes: node.attribute("obsoletes").map(str::to_owned),
    }
}

/// The parser calls itself for each element in an element: nothing is parsed that could exhaust the stack.
fn shallow(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for (at, _) in text.match_indices('<') {
        let tag = &text[at + 1..];
        let end = tag.find('>').unwrap_or(tag.len());
        if tag.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else if !tag.starts_with(['!', '?']) && !tag[..end].ends_with('/') {
            depth += 1;
        }
        if depth > DEPTH_MAX {
            return Err(format!("elements lie deeper than {DEPTH_MAX}"));
        }
    }
    Ok(())
}

/// What `program` writes on stdout when it is asked.
fn output(program: &Path, within: Duration) -> Result<Vec<u8>, String> {
    let until = Instant::now() + within;
    let machine = |error: io::Error| format!("cannot be asked: {error}");
    let (mut stdout, for_stdout) = io::pipe().map_err(machine)?;
    let (mut stderr, for_stderr) = io::pipe().map_err(machine)?;
    let mut command = Command::new(program);
    command.env_clear().envs(base_environment()).process_group(0);
    let asked = format!("action={}\n", Action::Metadata);
    command.stdin(input(asked.as_bytes()).map_err(machine)?).stdout(for_stdout).stderr(for_stderr);
    let mut child = command.spawn().map_err(|error| with_causes(&why_not_started(program, error)))?;
    // It holds the pipes' other ends, which have no end otherwise.
    drop(command);
    let said = listen(&child, &mut stdout, &mut stderr, until);
    let status = end(&mut child).map_err(machine)?;
    let (said, wrong) = said?;
    if status.success() {
        Ok(said)
    } else {
        Err(format!("does not describe itself: it {}", how(status, &wrong)))
    }
}

fn how(status: ExitStatus, wrong: &[u8]) -> String {
    let wrong = String::from_utf8_lossy(wrong).replace(char::is_control, " ");
    let end = status
        .code()
        .map_or_else(|| format!("ended with {status}"), |code| format!("exited with code {code}"));
    if wrong.trim().is_empty() { end } else { format!("{end}; it wrote: {}", wrong.trim()) }
}

/// Reads until it has ended, whoever still holds its pipes; gives what came on stdout, and the last of stderr.
fn listen(
    child: &Child,
    stdout: &mut PipeReader,
    stderr: &mut PipeReader,
    until: Instant,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let machine = |error: io::Error| format!("cannot be listened to: {error}");
    let ended = pidfd(child).map_err(machine)?;
    for pipe in [stdout.as_fd(), stderr.as_fd()] {
        fcntl_setfl(pipe, OFlags::NONBLOCK).map_err(|error| machine(error.into()))?;
    }
    let (mut said, mut wrong) = (Vec::new(), Vec::new());
    let (mut is_over, mut open) = (false, [true; 2]);
    loop {
        open[0] = open[0] && take(stdout, &mut said).map_err(machine)?;
        open[1] = open[1] && take(stderr, &mut wrong).map_err(machine)?;
        wrong.drain(..wrong.len().saturating_sub(STDERR_BYTES_MAX));
        if said.len() > BYTES_MAX {
            return Err(format!("describes itself in more than {BYTES_MAX} bytes"));
        }
        if is_over {
            return Ok((said, wrong));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("did not describe itself in time".to_owned());
        }
        let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
        fds.extend(open[0].then(|| PollFd::new(&*stdout, PollFlags::IN)));
        fds.extend(open[1].then(|| PollFd::new(&*stderr, PollFlags::IN)));
        let left = Timespec::try_from(left).map_err(|_| "has too much time".to_owned())?;
        retry_on_intr(|| poll(&mut fds, Some(&left))).map_err(|error| machine(error.into()))?;
        // What it wrote before is read in the next round, which is the last.
        is_over = !fds[0].revents().is_empty();
    }
}

/// Reads what is there, a bounded piece of it; false at the end.
fn take(pipe: &mut PipeReader, to: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0_u8; 8192];
    for _ in 0..16 {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => to.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn pid(child: &Child) -> io::Result<Pid> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    raw.ok_or_else(|| io::Error::other("a process id out of range"))
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    Ok(pidfd_open(pid(child)?, PidfdFlags::empty())?)
}

/// Kills it and what it has left in its group, and takes note of its end.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    // Not reaped yet: the group is its own. One without members is what is wanted.
    let _ = kill_process_group(pid(child)?, Signal::KILL);
    child.wait()
}

#[cfg(test)]
mod tests;
