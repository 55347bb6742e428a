//! What happens, as text.

use super::choice::{Choice, Rules};
use super::machine::{Hitch, How, Input, Reaction};
use super::scene::{At, Parcel, Scene};
use super::world::id;
use crate::story::{body_text, note_text};

/// What `choice` does in `scene`. Nothing where it is nothing.
pub(super) fn tell(rules: &mut Rules<'_>, scene: &Scene, choice: Choice) -> Vec<String> {
    let who = match scene.at {
        At::Machine(i) | At::Turn(i) => format!("{:?}", id(i)),
        At::Cut | At::Command | At::Stray(_) | At::End => String::new(),
    };
    let what = match choice {
        Choice::Pass => return Vec::new(),
        Choice::Cut(member, way) => format!("{:?} is cut off: {way:?}", id(member)),
        Choice::Heal => "nobody is cut off any more".into(),
        Choice::Start => format!("{who} starts"),
        Choice::Strike(fault) => format!("{who}: {fault:?}"),
        Choice::Command => format!("a command is given: {:?}", rules.world.command),
        Choice::Release => match scene.at {
            At::Stray(c) => format!("late, there arrives {}", parcel(&scene.stray[c])),
            _ => return Vec::new(),
        },
        Choice::Drop(k) => format!("lost: {}", parcel(&scene.due[k])),
        Choice::Straggle(k) => format!("late: {}", parcel(&scene.due[k])),
        Choice::Copy(k) => format!("copied: {}", parcel(&scene.due[k])),
        Choice::React { frame, hitch, swift } => return told(rules, scene, frame, hitch, swift),
    };
    vec![format!("tick {}: {what}", scene.tick)]
}

fn parcel(parcel: &Parcel) -> String {
    let bodies: Vec<String> = parcel.frame.bodies.iter().map(body_text).collect();
    format!("{:?} -> {:?}: {}", parcel.frame.header.from, id(parcel.to), bodies.join("; "))
}

fn told(
    rules: &mut Rules<'_>,
    scene: &Scene,
    frame: Option<usize>,
    hitch: Option<Hitch>,
    swift: bool,
) -> Vec<String> {
    let At::Turn(i) = scene.at else { return Vec::new() };
    let (input, what) = match frame {
        Some(k) => (Input::Frame(scene.due[k].frame.clone()), parcel(&scene.due[k])),
        None if scene.machines[i].is_committing() => (Input::Written, "its commit is done".into()),
        None => (Input::Wake, "wakes".into()),
    };
    let reaction = rules.react(i, scene.tick, &scene.machines[i], &input, hitch, swift);
    let hitch = hitch.map_or(String::new(), |Hitch { turn, how }| match how {
        How::Unwritten => format!("; is killed before commit {turn}"),
        How::Silent => format!("; is killed between commit {turn} and its effects"),
        How::Done => format!("; is killed after the effects of commit {turn}"),
        How::Slow => format!("; commit {turn} takes until the next tick"),
    });
    let mut lines = vec![format!("tick {}: {:?}: {what}{hitch}", scene.tick, id(i))];
    lines.extend(follows(&reaction).into_iter().map(|line| format!("    {line}")));
    lines
}

fn follows(reaction: &Reaction) -> Vec<String> {
    let notes = reaction.did.notes.iter().filter_map(note_text);
    let started = reaction.did.started.iter().map(|token| format!("runs the resources under {token}"));
    let frames = reaction.did.frames.iter().map(|(to, frame)| {
        let bodies: Vec<String> = frame.bodies.iter().map(body_text).collect();
        format!("says to {:?}: {}", id(*to), bodies.join("; "))
    });
    notes.chain(started).chain(frames).collect()
}
